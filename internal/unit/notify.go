// Package unit is what a program that runs as a systemd unit owes the machine:
// to tell the service manager its state, and to be the only one of its kind.
package unit

import (
	"net"
	"os"
)

// Notify tells the service manager a state such as "READY=1", if the program
// runs under one (sd_notify(3)). Nobody listening is not an error.
func Notify(state string) {
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
