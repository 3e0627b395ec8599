"""From the replies of a whole network to metrics, rows and ranges."""

import ipaddress

from worker.evaluation import sweeps
from worker.evaluation.replies import Replies
from worker.wire.echo import EchoRecord, EchoReplies, EchoReply

FIRST = ipaddress.ip_address("192.0.2.1")


def replies(*indexes: int, sent: int, dropped_here: int = 0, refused: int = 0, hosts: int = 1) -> Replies:
    """Return replies after 1 ms and a bit more for each request."""
    record = EchoRecord(
        sent=sent,
        refused={105: refused} if refused else {},
        replies=EchoReplies.of(
            EchoReply(request=index, rtt_ns=1_000_000 + 1000 * index, kernel=True, ttl=64)
            for index in indexes
        ),
        errors=(),
        bytes_sent=0,
        bytes_received=0,
        dropped_here=dropped_here,
    )
    return Replies.of(record, 1000, hosts)


def test_requests_go_to_the_addresses_in_turn() -> None:
    """Two rounds over three addresses; the second address answers once, the third never."""
    found = replies(0, 1, 3, sent=6)
    result = sweeps.summarise(found, FIRST, 3, 2)
    assert (result.addresses, result.addresses_answering, result.packets_received) == (3, 2, 3)
    assert result.loss_pct == 50
    rows = [(row.address, row.rtt_avg_ms, row.loss_pct) for row in result.by_address]
    assert rows == [("192.0.2.1", 1.0015, 0.0), ("192.0.2.2", 1.001, 50.0)]
    assert not result.HasField("ipdv_avg_ms")
    assert not result.HasField("loss_periods")


def test_only_a_reply_of_the_same_host_overtakes() -> None:
    """RFC 4737 tells of one flow: a slow host beside a fast one reorders nothing."""
    assert replies(1, 0, 2, 5, 3, sent=6, hosts=3).counted().reordered == 0
    assert replies(2, 1, 0, sent=3, hosts=3).counted().reordered == 0
    assert replies(1, 3, 0, 5, 2, sent=6, hosts=3).counted().reordered == 2
    assert replies(1, 0, 2, sent=3).counted().reordered == 1


def test_loss_of_an_address_is_not_told_where_it_is_not_known() -> None:
    """This host dropped something, or did not send everything: what is missing may be its own fault."""
    for found in (replies(0, 1, 3, sent=6, dropped_here=1), replies(0, 1, 3, sent=5, refused=1)):
        rows = list(sweeps.summarise(found, FIRST, 3, 2).by_address)
        assert [row.HasField("loss_pct") for row in rows] == [True, False]


def test_nobody_is_called_silent_who_may_have_answered() -> None:
    """Some were not asked, or their replies found no room here: who answered is told, and how many are not."""
    for found in (replies(0, 1, 2, sent=4, dropped_here=1), replies(0, 1, 2, sent=3, refused=1)):
        assert sweeps.answering(found, FIRST, 4) == {"answering": "192.0.2.1-192.0.2.3"}
        assert not sweeps.summarise(found, FIRST, 4, 1).HasField("addresses_answering")
    every_one = replies(0, 1, 2, 3, sent=4, dropped_here=1)
    assert sweeps.summarise(every_one, FIRST, 4, 1).addresses_answering == 4


def test_networks_above_the_bound_have_no_rows() -> None:
    """1,025 addresses."""
    assert not sweeps.summarise(replies(0, sent=1025), FIRST, 1025, 1).by_address
    assert sweeps.summarise(replies(0, sent=1024), FIRST, 1024, 1).by_address


def test_the_shorter_of_answering_and_silent_addresses_is_told() -> None:
    """As ranges; a bounded number of them, and how many more there are."""
    assert sweeps.answering(replies(0, 1, 2, 5, sent=6), FIRST, 6) == {"silent": "192.0.2.4-192.0.2.5"}
    assert sweeps.answering(replies(4, sent=6), FIRST, 6) == {"answering": "192.0.2.5"}
    assert sweeps.answering(replies(*range(6), sent=6), FIRST, 6) == {"answering": "192.0.2.1-192.0.2.6"}
    every_other = sweeps.answering(replies(*range(0, 254, 2), sent=254), FIRST, 254)["answering"]
    assert every_other.endswith("192.0.2.99, and 77 further ranges")
