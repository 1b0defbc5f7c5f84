"""Join the explorer's JavaScript files, results/static/, into one script; there is no build."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
# one scope: a file uses the functions of those before it
FILES = (
    "elements host cursor choice curves fills game maps wipe health board painter panels".split()
)
STYLE = "\n".join((STATIC / f"{n}.css").read_text("utf-8") for n in ("explorer", "painter"))


def join_files():
    """Return all files as one text, for one scope."""
    return "\n".join((STATIC / f"{name}.js").read_text("utf-8") for name in FILES)


def make_module():
    """Return the ES module that anywidget loads."""
    return join_files() + "\nexport default { render };\n"


def make_script():
    """Return the script for a page opened as a file, which cannot load modules."""
    exported = "window.inpaint = { mount, makeHost, revived };"
    return f"(function () {{\n{join_files()}\n{exported}\n}})();\n"
