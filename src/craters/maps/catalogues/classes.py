"""Which classes of annotations mean crater: those of a known name, or those that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from craters.errors import ConfigError, DataError
from craters.maps.catalogues.tables import plain

_KNOWN = ("crater", "craters", "impactcrater", "impactcraters")  # letters and digits
_LISTED = 10  # classes in a message


def known_in(names: Mapping[str, int]) -> list[str]:
    """Return the classes whose names mean crater.

    Examples
    --------
    >>> known_in({"Impact_Crater": 3, "non-crater": 2, "hill": 1})
    ['Impact_Crater']
    """
    return [name for name in names if plain(name) in _KNOWN]


def choose(counts: Mapping[str, int], given: str, source: str) -> list[str]:
    """Return the classes that mean crater.

    Parameters
    ----------
    counts : mapping of str to int
        Number of annotations by class; "" for those without a class.
    given : str
        One class, or several separated by commas, as given by --crater-class; empty: those of a
        known name.
    source : str
        Name of the file, for messages.

    Raises
    ------
    ConfigError
        If a given class does not occur.
    DataError
        If no class has a known name.

    Examples
    --------
    >>> choose({"crater": 5, "hill": 2}, "", "a.xml"), choose({"old": 5, "new": 2}, "old,new", "a")
    (['crater'], ['old', 'new'])
    """
    if given:
        wanted = [given] if given in counts else [part.strip() for part in given.split(",")]
        for name in wanted:
            if not name or name not in counts:
                raise ConfigError(
                    f"--crater-class: {source} has no class {name!r}; it has {_listed(counts)}",
                    "Names are compared letter by letter; commas separate several.",
                )
        return wanted
    if chosen := known_in(counts):
        return chosen
    example = next((name for name in counts if name), "NAME")
    raise DataError(
        f"{source}: it is not clear which class means crater; it has {_listed(counts)}",
        f"Name it, e.g. --crater-class {_quoted(example)}; separate several by commas.",
    )


def note(counts: Mapping[str, int], chosen: Sequence[str]) -> str:
    """List the classes that are craters, and those that are left out, with their numbers.

    Examples
    --------
    >>> note({"crater": 5, "hill": 2, "": 1}, ["crater"])
    "class 'crater' (5); left out: class 'hill' (2), no class (1)"
    """
    used = {name: counts[name] for name in chosen}
    others = {name: count for name, count in counts.items() if name not in used}
    return _listed(used) + (f"; left out: {_listed(others)}" if others else "")


def _listed(counts: Mapping[str, int]) -> str:
    """List classes with their numbers, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    parts = [
        f"class {name!r} ({count})" if name else f"no class ({count})"
        for name, count in ordered[:_LISTED]
    ]
    return ", ".join(parts) + (", ..." if len(ordered) > _LISTED else "")


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
