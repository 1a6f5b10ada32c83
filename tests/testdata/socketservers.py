"""Servers of Python's socketserver that tell each client its address.

socketservers.py tcp|udp ADDRESS PORT
"""
import socket
import socketserver
import sys


def tell(address):
    host, port = address[:2]
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


class Stream(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(tell(self.client_address))


class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        _, sock = self.request
        sock.sendto(tell(self.client_address), self.client_address)


class Streams(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128


kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
server, handler = (Streams, Stream) if kind == "tcp" else (socketserver.UDPServer, Datagram)
server.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
with server((address, port), handler) as s:
    s.serve_forever()
