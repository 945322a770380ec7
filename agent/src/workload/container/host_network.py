# Connects to a Unix socket in this container for the agent, and hands the connections out. Ends with the agent's side.
import array, json, socket, sys

asked = json.loads(sys.stdin.readline())
agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
agent.connect("\0" + asked["agent"])
agent.sendall(asked["secret"].encode())
while agent.recv(1):
    way = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        way.connect(asked["socket"])
    except OSError as error:
        agent.sendmsg([bytes([min(error.errno or 255, 255)])])
    else:
        descriptor = array.array("i", [way.fileno()])
        agent.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)])
    way.close()
