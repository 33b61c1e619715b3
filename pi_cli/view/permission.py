"""The question whether a model may read a folder outside the working directory."""

from pi_cli.chat.access import Answer, Question
from pi_cli.safe import safe_line
from pi_cli.view import questions

ANSWERS = {
    "y": Answer.yes, "yes": Answer.yes,
    "n": Answer.no, "no": Answer.no,
    "a": Answer.always, "always": Answer.always, "always here": Answer.always,
}  # fmt: skip


async def ask(question: Question) -> Answer:
    """Ask on the terminal until the answer is one of those offered; the end of the input is a no."""
    text = words(question)
    while True:
        line = await questions.ask_line(text)
        if line is None:
            return Answer.no
        if answer := ANSWERS.get(line.lower()):
            return answer
        text = "Please type y, n or a: "


def words(question: Question) -> str:
    """Return the question for the terminal; the path is the model's own text."""
    path, folder = safe_line(question.path), safe_line(question.folder)
    target = "" if question.real == question.path else f" ({safe_line(question.real)})"
    verb, below = ("search", " and all folders below it") if question.is_search else ("read", "")
    always = "" if question.is_search else ", [a]lways here (and in all folders below it)"
    return (
        f"The model wants to {verb} {path}{target}, which is outside the working directory.\n"
        f"Allow the files in {folder}{below}, in this conversation?\n[y]es, [n]o{always}: "
    )
