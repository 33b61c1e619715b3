"""The addresses at which one pod may reach another."""

from hypothesis import given
from hypothesis import strategies as st

from pi_cli.gateway import on_pod
from tests.properties import PROPERTY

ROUTES = """\
Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.0.0.0/24 2 0 2
        |-- 10.0.0.0
           /24 link UNICAST
        |-- 10.0.0.7
           /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
     |-- 100.64.3.9
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 169.254.1.1
        /32 host LOCAL
     |-- 8.8.4.4
        /32 host LOCAL
     |-- 999.1.1.1
        /32 host LOCAL
"""


def test_only_private_addresses_of_the_machine_itself_are_used() -> None:
    assert on_pod.private_addresses(ROUTES + ROUTES) == ["10.0.0.7", "100.64.3.9"]


@PROPERTY
@given(st.text("|- 0129.\n/32 hostLOCAL", max_size=200))
def test_no_table_of_routes_fails(text: str) -> None:
    on_pod.private_addresses(text)
