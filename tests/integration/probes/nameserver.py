"""A small name server for tests: what it answers, and how badly, goes by the name asked for."""

from __future__ import annotations

import contextlib
import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

#: Extra records of the answer that is too long for UDP.
MANY = 60


class NameServer:
    """Answers over UDP and TCP on one port of 127.0.0.1, each in a thread."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.tcp.getsockname()[1])
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        #: Queries as they came, and the ports that those over UDP came from.
        self.queries: list[dns.message.Message] = []
        self.ports: list[int] = []
        self._closing = False
        self._threads = [threading.Thread(target=work) for work in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop both threads: a datagram and a connection from the server's own ports wake them."""
        self._closing = True
        self.udp.sendto(b"", self.udp.getsockname())
        with socket.create_connection(self.tcp.getsockname()):
            pass
        for thread in self._threads:
            thread.join()
        self.udp.close()
        self.tcp.close()

    def _serve_udp(self) -> None:
        while True:
            data, address = self.udp.recvfrom(4096)
            if not data:
                return
            self.ports.append(address[1])
            for answer in self._answers(data, udp=True):
                self.udp.sendto(answer, address)

    def _serve_tcp(self) -> None:
        while True:
            connection, _address = self.tcp.accept()
            if self._closing:
                connection.close()
                return
            with connection, contextlib.suppress(ConnectionError):
                prefix = connection.recv(2, socket.MSG_WAITALL)
                if len(prefix) < 2:
                    continue  # a client that has enough leaves
                data = connection.recv(int.from_bytes(prefix, "big"), socket.MSG_WAITALL)
                for answer in self._answers(data, udp=False):
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answers(self, data: bytes, *, udp: bool) -> list[bytes]:
        query = dns.message.from_wire(data)
        self.queries.append(query)
        name = str(query.question[0].name)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA | dns.flags.RA
        if name == "a.test.":
            answer.flags |= dns.flags.AD
            answer.answer = [
                dns.rrset.from_text("a.test.", 300, "IN", "CNAME", "b.test."),
                dns.rrset.from_text("b.test.", 60, "IN", "A", "192.0.2.1", "192.0.2.2"),
            ]
        elif name == "none.test.":
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif name == "badvers.test.":
            answer.set_rcode(dns.rcode.BADVERS)
        elif name == "long.test.":
            if udp:
                answer.flags |= dns.flags.TC
            else:
                texts = [f'"{number:03d} {"x" * 40}"' for number in range(MANY)]
                answer.answer = [dns.rrset.from_text("long.test.", 5, "IN", "TXT", *texts)]
        elif name in ("hangup.test.", "silent.test."):
            return []
        elif name == "once.test." and len(self.queries) > 1:
            return [data[:2] + b"\x84\0\0\1garbage"]
        elif name == "another.test.":
            answer = dns.message.make_response(dns.message.make_query("other.test.", "A", id=query.id))
        elif name == "garbage.test.":
            return [data[:2] + b"\x84\0\0\1garbage"]
        elif name == "spoofed.test.":
            right = dns.rrset.from_text("spoofed.test.", 60, "IN", "A", "192.0.2.7")
            wrong = dns.rrset.from_text("spoofed.test.", 60, "IN", "A", "203.0.113.66")
            other_id = dns.message.make_response(query)
            other_id.id = query.id ^ 1
            other_id.answer = [wrong]
            other_question = dns.message.make_response(
                dns.message.make_query("other.test.", "A", id=query.id)
            )
            other_question.answer = [wrong]
            answer.answer = [right]
            return [b"\0", other_id.to_wire(), other_question.to_wire(), data, answer.to_wire()]
        return [answer.to_wire(max_size=65_535)]
