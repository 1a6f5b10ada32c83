package state

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
)

// testdata/version1.gz was written by the last fnatd of version 1: by populate, with
// these secrets and two notes, and left by a process that was killed. It stays as it is.
var (
	goldenSecrets = Secrets{ISN: [16]byte{1, 2, 3}, Cookie: [16]byte{4, 5, 6}}
	goldenNotes   = `{"Began":"2026-11-30T12:00:00Z","Adopted":2}`
)

// version1 puts that state into a file, as if this host had left it.
func version1(t *testing.T) (path string) {
	t.Helper()
	f, err := os.Open("testdata/version1.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	dir, was := t.TempDir(), bootID
	path, bootID = filepath.Join(dir, "state"), filepath.Join(dir, "boot")
	t.Cleanup(func() { bootID = was })
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.WriteFile(bootID, content[bootAt:secretsAt], 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVersion1 goes on with a state of version 1, before and after its conversion:
// all that is in it is still there.
func TestVersion1(t *testing.T) {
	path := version1(t)
	want := connections(t, aPopulatedTable(t))
	if len(want) != 320 {
		t.Fatalf("%d connections are made, want 320", len(want))
	}
	for _, step := range []struct {
		version   uint64
		by        string
		converted bool
	}{{1, "", true}, {2, "v2.0", false}, {2, "v2.0", false}} {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if version, by := f.Signature(); version != step.version || by.Build != step.by {
			t.Errorf("it is of version %d by %q, want %d by %q", version, by.Build, step.version, step.by)
		}
		if f.Secrets() != goldenSecrets {
			t.Errorf("version %d has other secrets", step.version)
		}
		if b, damaged := f.Notes(); damaged != nil || string(b) != goldenNotes {
			t.Errorf("version %d has notes %s, %v", step.version, b, damaged)
		}
		compare(t, connections(t, f.Table()), want)
		if got := f.Convert(cmp.Or(step.by, "v2.0")); got != step.converted {
			t.Errorf("version %d is converted: %v, want %v", step.version, got, step.converted)
		}
		if version, by := f.Signature(); version != Version || by.Build != "v2.0" || time.Since(by.At) > time.Minute {
			t.Errorf("it is then of version %d by %v", version, by)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVersion1IsCopied copies its table to other memory, which is what a step to another
// layout of the table would do.
func TestVersion1IsCopied(t *testing.T) {
	f, err := Open(version1(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, _, err := conntrack.Adopt(f.Table())
	if err != nil {
		t.Fatal(err)
	}
	copied, err := Create("", conntrack.Measure(small).Memory(), f.Secrets(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if _, left, err := table.Resized(small.MaxConnections, copied.Table()); left != 0 || err != nil {
		t.Errorf("%d are left behind, %v", left, err)
	}
	compare(t, connections(t, copied.Table()), connections(t, aPopulatedTable(t)))
}

// aPopulatedTable returns what populate makes of a table today.
func aPopulatedTable(t *testing.T) []byte {
	t.Helper()
	f, err := Create("", conntrack.Measure(small).Memory(), Secrets{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	table, err := conntrack.New(small, f.Table())
	if err != nil {
		t.Fatal(err)
	}
	populate(t, table)
	return f.Table()
}

// connections adopts the table in mem and returns what is in it. Local ports, which
// are chosen freely, are left out once they are seen to be there.
func connections(t *testing.T, mem []byte) map[conntrack.Conn]bool {
	t.Helper()
	table, found, err := conntrack.Adopt(mem)
	if err != nil {
		t.Fatal(err)
	}
	if found.Lost() != 0 || table.Clock() != populated {
		t.Errorf("%+v at %d ms, want nothing lost at %d", found, table.Clock(), populated)
	}
	if err := table.Check(); err != nil {
		t.Error(err)
	}
	all := map[conntrack.Conn]bool{}
	for shard := range table.Shards() {
		buf := make([]conntrack.Conn, small.MaxConnections)
		n, _ := table.Walk(shard, 0, buf)
		for _, c := range buf[:n] {
			if (c.LocalPort == 0) != (c.State == conntrack.Template) {
				t.Errorf("%+v has no local port", c)
			}
			c.LocalPort = 0
			all[c] = true
		}
	}
	return all
}

func compare(t *testing.T, got, want map[conntrack.Conn]bool) {
	t.Helper()
	for c := range want {
		if !got[c] {
			t.Errorf("not there: %+v", c)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d connections, want %d", len(got), len(want))
	}
}

// TestConvertTouchesNothingOfBefore makes sure that a conversion can end anywhere: all
// that version 1 reads stays until the version itself is another.
func TestConvertTouchesNothingOfBefore(t *testing.T) {
	path := version1(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Convert("v2.0")
	after := bytes.Clone(f.mem)
	f.Close()
	for at := range after {
		if inVersion := at/8 == versionAt/8; after[at] != before[at] && !inVersion && at/halfSize != 1 {
			t.Fatalf("byte %d, which is no part of version 2's place, has changed", at)
		}
	}
	for n := 0; n <= halfSize; n += 13 { // as far as it had come
		half := bytes.Clone(before)
		copy(half[halfSize:halfSize+n], after[halfSize:])
		if err := os.WriteFile(path, half, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if version, _ := f.Signature(); version != 1 || f.Secrets() != goldenSecrets {
			t.Fatalf("after %d bytes it is of version %d, or has other secrets", n, version)
		}
		f.Close()
	}
}

// The process that TestConvertIsKilled kills is told of the state and of the host's boot.
const killedVariable = "FNATD_TEST_CONVERT"

// TestConvertIsKilled kills a process that does nothing but convert, at any instant. What
// it leaves is of one version or the other, and both are seen.
func TestConvertIsKilled(t *testing.T) {
	if paths := os.Getenv(killedVariable); paths != "" {
		convertForEver(t, paths)
	}
	path := version1(t)
	seen := map[uint64]int{}
	for range 60 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestConvertIsKilled$")
		cmd.Env = append(os.Environ(), killedVariable+"="+path+":"+bootID)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len(converting))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		version, by := f.Signature()
		if seen[version]++; f.Secrets() != goldenSecrets || version == 2 && by.Build != "v2.0" {
			t.Fatalf("version %d, by %v, or other secrets", version, by)
		}
		f.Close()
	}
	if seen[1] == 0 || seen[2] == 0 {
		t.Errorf("killed in version: %v, want some in each", seen)
	}
}

const converting = "converting"

func convertForEver(t *testing.T, paths string) {
	path, boot, _ := strings.Cut(paths, ":")
	bootID = boot
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(converting)
	for {
		f.Convert("v2.0")
		// Back, in the same way.
		_, _ = os.ReadFile(bootID) // to be as long in this version as in the other
		barrier.Add(1)
		binary.LittleEndian.PutUint64(f.mem[versionAt:], 1)
		barrier.Add(1)
		clear(f.mem[halfSize:headerSize])
	}
}

// TestLayouts has whoever lays out the connection table in another way raise the version
// of the whole, by which a fnatd that does not know it finds out before it is too late.
func TestLayouts(t *testing.T) {
	tables := map[int]int{1: 1, 2: 1} // by version of the state, that of the table in it
	if got := tables[Version]; got != conntrack.Version {
		t.Errorf("a state of version %d has a table of version %d, want %d: raise Version too, and say so here", Version, conntrack.Version, got)
	}
}

// populate gives a table connections of every kind, always the same ones but for their
// local ports, and has its clock stand at populated.
func populate(t *testing.T, table *conntrack.Table) {
	t.Helper()
	bind := func(proto uint8, virtual, real string) conntrack.BindingID {
		id, err := table.Bind(conntrack.Binding{
			Proto: proto, Virtual: packet.EndpointFrom(netip.MustParseAddrPort(virtual)), Real: packet.EndpointFrom(netip.MustParseAddrPort(real)),
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	ids := []conntrack.BindingID{
		bind(packet.ProtoTCP, "203.0.113.10:80", "10.0.2.11:8080"),
		bind(packet.ProtoTCP, "203.0.113.10:80", "10.0.2.12:8080"),
		bind(packet.ProtoTCP, "[2001:db8::10]:80", "10.0.2.12:8080"),
		bind(packet.ProtoUDP, "203.0.113.53:53", "10.0.2.53:53"),
	}
	local, err := table.AddLocal(conntrack.Local{Addr: packet.AddrFrom4([]byte{10, 0, 2, 1}), PortMin: 1024, PortMax: 65535})
	if err != nil {
		t.Fatal(err)
	}
	reserve := func() {
		if _, _, ok := table.Reserve(); !ok {
			t.Fatal("the table is full")
		}
	}
	for i := range uint32(300) {
		id := ids[i%4]
		b := table.Binding(id)
		f := packet.Flow{
			Src: packet.AddrFrom4([]byte{198, 18, byte(i >> 8), byte(i)}), SrcPort: uint16(2000 + i),
			Dst: b.Virtual.Addr, DstPort: b.Virtual.Port, Proto: b.Proto,
		}
		if !b.Virtual.Addr.Is4() {
			f.Src = packet.AddrFromNetip(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}))
		}
		reserve()
		key := table.InboundKey(&f)
		shard := table.Lock(key)
		c, why := shard.Insert(key, &f, id, []conntrack.LocalID{local}, nil, 1000+i)
		if why != packet.Kept {
			t.Fatal(why)
		}
		switch {
		case b.Proto == packet.ProtoUDP && i%8 == 7:
			shard.SetState(c, conntrack.UDP, 300_000, 2000+i)
			shard.SetAlarm(c, 50_000+i)
			c.SetNoticeTries(i % 4)
		case b.Proto == packet.ProtoUDP:
			shard.SetState(c, conntrack.UDPOneWay, 30_000, 2000+i)
		case i%11 == 5:
			shard.SetState(c, conntrack.SynReceived, 30_000, 2000+i)
		default:
			shard.SetState(c, conntrack.Established, 90_000, 2000+i)
			shard.SetSpare(c, i, ^i)
			c.Flags, c.SeqDelta, c.AckDelta, c.FirstData = uint8(i), 3*i, 5*i, 7*i
			c.RealSeq, c.RealAck, c.TimestampDelta = 11*i, 13*i, 17*i
		}
		shard.Unlock()
	}
	for i := range byte(20) {
		b := table.Binding(ids[0])
		client := packet.AddrFrom4([]byte{198, 18, 9, i})
		reserve()
		key := table.TemplateKey(b.Proto, client, b.Virtual)
		shard := table.Lock(key)
		_, why := shard.InsertTemplate(key, client, ids[0], 360_000, 3000)
		shard.Unlock()
		if why != packet.Kept {
			t.Fatal(why)
		}
	}
	for shard := range table.Shards() {
		table.Expire(shard, populated, 1, func(*conntrack.Shard, *conntrack.Conn) uint32 { return 0 })
	}
}

const populated = 4000 // ms

// small is the table that populate is for.
var small = conntrack.Config{MaxConnections: 1000, HashKey: siphash.Key{K0: 3, K1: 5}}
