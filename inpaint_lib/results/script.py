"""Join the explorer's plain JavaScript, in results/static/, to one script: nothing builds it."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
# one scope: a file uses the functions of those before it
FILES = (
    "elements host cursor choice curves fills game maps wipe health board painter panels".split()
)
STYLE = "\n".join((STATIC / f"{n}.css").read_text("utf-8") for n in ("explorer", "painter"))


def join_files():
    """Return all files as one text, to stand in one scope."""
    return "\n".join((STATIC / f"{name}.js").read_text("utf-8") for name in FILES)


def make_module():
    """Return the ES module that anywidget loads."""
    return join_files() + "\nexport default { render };\n"


def make_script():
    """Return a script for a page opened from a file, which may have no module."""
    exported = "window.inpaint = { mount, makeHost, revived };"
    return f"(function () {{\n{join_files()}\n{exported}\n}})();\n"
