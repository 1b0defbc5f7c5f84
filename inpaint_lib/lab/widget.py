"""Show the explorer in a notebook, and answer its page with `ANSWERS`.

The page sends {"id", "kind", "params"} and buffers; the reply is {"id", "answer"} with buffers, or
{"id", "error": a line to show}. Each array of an answer becomes a buffer and, in its place,
{"buffer", "shape", "dtype"}.
"""

import traceback

import anywidget
import traitlets

from ..data import images
from ..results import explored, script
from . import answers, paint, state

ANSWERS = answers.ANSWERS | paint.PAINT


class Explorer(anywidget.AnyWidget):
    """The explorer of a study: `Explorer(state.load_study("tiny"))`."""

    _esm = script.make_module()
    _css = script.STYLE
    meta = traitlets.Dict().tag(sync=True)

    def __init__(self, opened):
        self.state = opened
        super().__init__(meta=self.state.about)
        self.on_msg(lambda _, content, buffers: self.answer(content, buffers))

    def answer(self, content, buffers):
        """Answer one message of the page."""
        try:
            if content["kind"] == "open":
                self.state = state.load_study(content["params"]["study"])
                self.meta = found = self.state.about
            else:
                of_kind = ANSWERS[content["kind"]]
                found = of_kind(self.state, buffers, **content["params"])
            sent = []
            self.send({"id": content["id"], "answer": explored.pack_arrays(found, sent)}, sent)
        except Exception as error:
            known = isinstance(error, ValueError | FileNotFoundError | images.Unusable)
            if not known:
                traceback.print_exc()  # to the kernel's log
            words = " ".join(map(str, error.args)) if known else f"{type(error).__name__}: {error}"
            self.send({"id": content.get("id"), "error": words})
