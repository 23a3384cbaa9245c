"""What counts as one address."""

from __future__ import annotations

import pytest

from chat.server.admission import SPARE, Admission, network
from chat.server.flags import Options


@pytest.mark.parametrize(
    ("host", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::%eth0/64"),
        ("fe80::1%eth1", "fe80::%eth1/64"),
        ("::1", "::/64"),
    ],
)
def test_of_ipv6_a_network_counts_as_one(host: str, counts_as: str) -> None:
    assert network(host) == counts_as


def test_another_address_of_the_same_network_is_no_way_around_the_limits() -> None:
    options = Options()
    options.max_per_ip = SPARE
    admission = Admission(options)
    hosts = [f"2001:db8::{number:x}:1" for number in range(SPARE + 1)]
    for host in hosts[:SPARE]:
        assert admission.handshake_refusal(host) == ""
        admission.shaking.add(host)
    assert admission.handshake_refusal(hosts[SPARE]) == "too many handshakes from 2001:db8::/64"
    for host in hosts[:SPARE]:
        assert admission.refusal(host) == ""
        admission.members.add(host)
    assert admission.refusal(hosts[SPARE]) == "too many connections from 2001:db8::/64"
    assert admission.refusal("2001:db8:0:1::1") == admission.refusal("192.0.2.1") == ""
    admission.members.remove(hosts[0])
    assert admission.refusal(hosts[SPARE]) == ""
    for host in hosts[1:SPARE]:
        admission.members.remove(host)
    assert not admission.members.of and not admission.members.all
