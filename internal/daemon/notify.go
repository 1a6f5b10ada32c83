package daemon

import (
	"net"
	"os"
)

// notify tells the service manager a state such as "READY=1", if fnatd runs
// under one (sd_notify(3)). Nobody listening is not an error.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}
