"""Which address pods reach each other by, and which connections are too slow."""

import pytest

from pi_cli.errors import BadUsage, PiError
from pi_cli.models import private_network
from pi_cli.pods.reports import Address, Link

ETH0, ENS1 = Address("172.16.0.5", "eth0", ""), Address("10.65.0.2", "ens1", "NODE_ADDR")


@pytest.mark.parametrize(
    ("rate", "spans_pods", "reason"),
    [
        (94e6, False, "94 Mbit/s, which is too slow for one model"),
        (5e9, True, "5.0 Gbit/s, which is too slow for tensor parallelism"),
        (5e9, False, None),
        (40e9, True, None),
    ],
)
def test_a_connection_that_is_too_slow_for_what_is_to_run_over_it_is_refused(
    rate: float, spans_pods: bool, reason: str | None
) -> None:
    if reason is None:
        private_network.judge(rate, spans_pods=spans_pods)
    else:
        with pytest.raises(BadUsage, match=reason):
            private_network.judge(rate, spans_pods=spans_pods)


def test_the_address_that_all_others_reach_fastest_is_used() -> None:
    slow, fast = Link(ETH0.address, 1e9, ""), Link(ENS1.address, 40e9, "")
    lost = Link(ENS1.address, None, "Connection refused")
    assert private_network.fastest("dc1", [ETH0, ENS1], {"dc2": [slow, fast]})[0] == ENS1
    address, rates = private_network.fastest("dc1", [ENS1, ETH0], {"dc2": [fast, slow], "dc3": [lost, slow]})
    assert (address, rates) == (ETH0, {"dc2": 1e9, "dc3": 1e9})
    with pytest.raises(PiError, match=r"`dc2` does not reach `dc1` .*10\.65\.0\.2: Connection refused"):
        private_network.fastest("dc1", [ENS1], {"dc2": [lost]})


@pytest.mark.parametrize(
    ("address", "is_private"),
    [("10.1.2.3", True), ("172.31.0.1", True), ("172.32.0.1", False), ("100.64.3.4", True), ("8.8.8.8", False)],
)
def test_public_addresses_are_not_private(address: str, is_private: bool) -> None:
    assert private_network.is_private(address) is is_private
