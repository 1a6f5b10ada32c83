package ctl

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestListen(t *testing.T) {
	t.Run("second_daemon_is_refused", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "fnatd.sock")
		l, err := Listen(socket, "")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, err = Listen(socket, "")
		if err == nil || !strings.Contains(err.Error(), "another fnatd answers") {
			t.Errorf("got %v, want an error about another fnatd", err)
		}
		if _, err := os.Stat(socket); err != nil {
			t.Errorf("the first one's socket: %v", err)
		}
	})
	t.Run("socket_of_a_killed_daemon_is_replaced", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "fnatd.sock")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		l, err := Listen(socket, "")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
	t.Run("a_file_of_another_kind_is_left_alone", func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "lb.toml")
		if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Listen(name, "")
		if err == nil || !strings.Contains(err.Error(), "is not a socket") {
			t.Errorf("got %v, want an error that it is not a socket", err)
		}
		if b, _ := os.ReadFile(name); string(b) != "precious" {
			t.Errorf("got content %q, want it untouched", b)
		}
	})
	t.Run("missing_directory_says_what_to_do", func(t *testing.T) {
		_, err := Listen(filepath.Join(t.TempDir(), "no", "fnatd.sock"), "")
		if !strings.Contains(fmt.Sprint(err), "no such directory: make it") {
			t.Errorf("got %v, want what to do", err)
		}
	})
	t.Run("only_owner_and_group_may_connect", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "fnatd.sock")
		l, err := Listen(socket, "")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := os.Stat(socket)
		if err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("got %v, %v, want mode 0660", info.Mode(), err)
		}
	})
	t.Run("group_of_the_socket", func(t *testing.T) {
		own, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
		if err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(t.TempDir(), "fnatd.sock")
		l, err := Listen(socket, own.Name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := os.Stat(socket)
		if err != nil {
			t.Fatal(err)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; int(gid) != os.Getgid() || info.Mode().Perm() != 0o660 {
			t.Errorf("got group %d and mode %v, want %d and 0660", gid, info.Mode(), os.Getgid())
		}
	})
	t.Run("group_that_nobody_made", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "fnatd.sock")
		_, err := Listen(socket, "nobody-has-made-it")
		const want = `control socket: control_group "nobody-has-made-it": no such group: make it (groupadd --system nobody-has-made-it), or name another`
		if fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("the socket is there: %v", err)
		}
	})
	t.Run("after_close_it_may_listen_again", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "fnatd.sock")
		for range 2 {
			l, err := Listen(socket, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
