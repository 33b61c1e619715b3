"""The results of `pi check`, which quote the model's server."""

from pi_cli.models.check_findings import Check
from pi_cli.view import agent_check
from tests.hostile.driver import CONTROLS
from tests.hostile.mutants import ESCAPES


def test_what_a_server_says_is_safe_in_json_too() -> None:
    for evil in ESCAPES.values():
        shown = agent_check.as_json(Check("chat", passed=False, reason=f"answers {evil}\nno", seconds=1.0))
        reason = str(shown["reason"])
        assert reason.startswith("answers ")
        assert not CONTROLS.search(reason)
