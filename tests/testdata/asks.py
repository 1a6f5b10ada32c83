"""A TCP server that tells each client what it can learn of it, as JSON.

asks.py ADDRESS PORT
"""
import ctypes
import errno
import json
import socket
import sys


def ask(conn, option, room):
    try:
        return conn.getsockopt(socket.SOL_IP, option, room).hex()
    except OSError as e:
        return errno.errorcode[e.errno]


def ask_large(conn, option, room):
    """What ask does, for more room than Python would give."""
    buf, length = ctypes.create_string_buffer(room), ctypes.c_uint(room)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(conn.fileno(), socket.SOL_IP, option, buf, ctypes.byref(length)) < 0:
        return errno.errorcode[ctypes.get_errno()]
    return buf.raw[:length.value].hex()


address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.create_server((address, port), family=family, backlog=128) as listener:
    while True:
        conn, client = listener.accept()
        with conn:
            try:
                answer = {
                    "accept": list(client[:2]),
                    "getpeername": list(conn.getpeername()[:2]),
                    "ttm": ask(conn, 1345, 20),
                    "roomy": ask(conn, 1345, 64),
                    "short": ask(conn, 1345, 19),
                    "dpvs": ask(conn, 4096, 20),
                    # Not ours: these have to go on as ever.
                    "tos": ask(conn, socket.IP_TOS, 4),
                    "tos_large": ask_large(conn, socket.IP_TOS, 65536),
                }
                conn.sendall(json.dumps(answer).encode())
            except OSError:
                pass  # the client has gone
