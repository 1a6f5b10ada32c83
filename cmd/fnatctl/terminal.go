package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

func isTerminal(files ...*os.File) bool {
	for _, f := range files {
		if !term.IsTerminal(int(f.Fd())) {
			return false
		}
	}
	return true
}

// The control sequences that are used (ECMA-48, and xterm's other screen): they
// are the same on every terminal of this century.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearRest   = "\x1b[J"
)

// A terminal is a screen on a terminal.
type terminal struct {
	out     *os.File
	pressed chan key
}

// onTerminal runs f with a terminal, which is as it was afterwards, also after a
// signal that ends the program.
func onTerminal(in, out *os.File, f func(screen) error) (err error) {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	t := &terminal{out, make(chan key)}
	defer func() {
		_, wrote := io.WriteString(out, leaveScreen)
		err = errors.Join(err, wrote, term.Restore(int(in.Fd()), old))
	}()
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGWINCH)
	defer signal.Stop(signals)
	go t.listen(in, signals, ended)
	return f(t)
}

// listen turns what is typed, and signals, into keys, until ended is closed.
func (t *terminal) listen(in io.Reader, signals <-chan os.Signal, ended <-chan struct{}) {
	typed := make(chan key)
	go func() {
		defer close(typed)
		for r := bufio.NewReader(in); ; {
			k, err := readKey(r)
			if err != nil {
				return
			}
			select {
			case typed <- k:
			case <-ended:
				return
			}
		}
	}()
	for {
		k, ok := keyNone, true
		select {
		case <-ended:
			return
		case s := <-signals:
			if s != syscall.SIGWINCH { // else the view is drawn anew
				k = keyQuit
			}
		case k, ok = <-typed:
		}
		if !ok {
			k = keyQuit
		}
		select {
		case t.pressed <- k:
		case <-ended:
			return
		}
		if !ok {
			return
		}
	}
}

// sequences are what keys send that are no letters.
var sequences = map[string]key{
	"[A": keyUp, "OA": keyUp, "[B": keyDown, "OB": keyDown, "[5~": keyPageUp, "[6~": keyPageDown,
}

// readKey reads one key. A key that nobody knows is keyNone.
func readKey(r *bufio.Reader) (key, error) {
	c, err := r.ReadByte()
	if err != nil {
		return keyNone, err
	}
	switch c {
	case 'q', 'Q', 3: // 3 is Ctrl-C
		return keyQuit, nil
	case 'k':
		return keyUp, nil
	case 'j':
		return keyDown, nil
	case 'o':
		return keyOrder, nil
	case ' ':
		return keyPageDown, nil
	case 0x1b:
		return readSequence(r)
	}
	return keyNone, nil
}

// readSequence reads what follows an escape. It comes in one piece, so what is not
// there yet will not come.
func readSequence(r *bufio.Reader) (key, error) {
	var text strings.Builder
	for r.Buffered() > 0 && text.Len() < 8 {
		c, err := r.ReadByte()
		if err != nil {
			return keyNone, err
		}
		text.WriteByte(c)
		if text.Len() > 1 && c >= '@' && c <= '~' {
			break
		}
	}
	return sequences[text.String()], nil
}

func (t *terminal) size() (width, height int) {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

func (t *terminal) keys() <-chan key { return t.pressed }

// show draws over what was there, so that nothing flickers.
func (t *terminal) show(lines []string) error {
	_, err := io.WriteString(t.out, home+strings.Join(lines, clearLine+"\r\n")+clearLine+clearRest)
	return err
}
