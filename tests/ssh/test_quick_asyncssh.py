"""What pi leaves out of asyncssh, and what it does with one that cannot do without."""

import subprocess
import sys

PROGRAM = """
import sys
from pi_cli.ssh import quick_asyncssh
print(*(name for name in ("asyncssh.sftp", "asyncssh.scp", "argparse") if name in sys.modules))
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_sftp_and_scp_are_not_loaded() -> None:
    assert run(PROGRAM) == ""


def test_sftp_can_still_be_imported() -> None:
    assert run(f"{PROGRAM}\nimport asyncssh.sftp\nprint(asyncssh.sftp.SFTPClient.__module__)") == "asyncssh.sftp"


LATER = """
import sys
class Later:
    def find_spec(self, name, path, target=None):
        if name == "asyncssh.process" and type(sys.modules.get("asyncssh.sftp")).__name__ == "_Unused":
            sys.modules["asyncssh.sftp"].SFTPError.code
sys.meta_path.insert(0, Later())
"""


def test_an_asyncssh_that_needs_what_is_left_out_is_loaded_whole() -> None:
    """A later asyncssh is simulated, which uses a class of its SFTP while it is imported."""
    assert run(LATER + PROGRAM) == "asyncssh.sftp asyncssh.scp argparse"
