// Browsers start no workers for pages from disk. There, the worker of the search runs in a hidden frame.
// The offline plugin asks for a script of this name.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = `<script>
        postMessage = (data) => frameElement.worker.dispatchEvent(new MessageEvent("message", { data }));
      </script><script src="${new URL(url, location)}"></script>`;
      frame.worker = this;
      this.window = new Promise((resolve) => {
        frame.onload = () => resolve(frame.contentWindow);
      });
      document.documentElement.append(frame);
    }

    async postMessage(data) {
      const window = await this.window;
      window.dispatchEvent(new window.MessageEvent("message", { data }));
    }
  };
}
