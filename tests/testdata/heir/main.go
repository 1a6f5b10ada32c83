// Command heir is a fnatd that another one is to be replaced by, and that is no good:
// its name says how. It knows of the conversation just what it needs.
package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	fd, err := strconv.Atoi(os.Getenv("FNATD_HEIR"))
	if err != nil {
		os.Exit(2)
	}
	c, err := net.FileConn(os.NewFile(uintptr(fd), "owner"))
	if err != nil {
		panic(err)
	}
	say := func(kind string, more map[string]any) {
		m := map[string]any{"Kind": kind}
		for k, v := range more {
			m[k] = v
		}
		b, _ := json.Marshal(m)
		c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	}
	// hear waits for a message, and drops its descriptors: a byte for each 128.
	hear := func() {
		var size [4]byte
		io.ReadFull(c, size[:])
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		io.ReadFull(c, b)
		var m struct{ Files int }
		json.Unmarshal(b, &m)
		io.ReadFull(c, make([]byte, (m.Files+127)/128))
	}
	how := filepath.Base(os.Args[0])
	at := func(moment string) {
		switch how {
		case "hangs_" + moment:
			time.Sleep(time.Minute)
		case "ends_" + moment:
			os.Exit(3)
		case "lies_" + moment:
			say("nonsense", nil)
			time.Sleep(time.Minute)
		}
	}
	at("at_once")
	say("hello", map[string]any{"Hello": map[string]any{"Version": "bad", "PID": os.Getpid()}})
	hear() // will
	at("unready")
	say("ready", nil)
	hear() // estate
	at("with_the_estate")
	say("serving", nil)
	at("in_service")
	time.Sleep(time.Minute) // and forwards nothing
}
