package xsk

import "testing"

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"defaults", Config{}, ""},
		{"huge_pages_are_optional", Config{Frames: 16, HugePages: true}, ""},
		{"negative_frames", Config{Frames: -1}, "umem: -1 frames: want more than none"},
		{"odd_frame_size", Config{FrameSize: 1500}, "umem: frame size 1500: want 2048 or 4096"},
		{"odd_ring_size", Config{RingSize: 1000}, "umem: ring size 1000: want a power of two up to 65536"},
		{"large_ring_size", Config{RingSize: 1 << 17}, "umem: ring size 131072: want a power of two up to 65536"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := NewUMEM(tt.c)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Fatalf("got  %s\nwant %s", got, tt.want)
			}
			if err == nil {
				if err := u.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestAlloc(t *testing.T) {
	u := newUMEM(t, Config{Frames: 3, FrameSize: 4096}, 0)
	for i := range uint64(3) {
		addr, ok := u.Alloc()
		if !ok || addr != i*4096 {
			t.Errorf("frame %d is at %d, %v", i, addr, ok)
		}
		frame := u.Chunk(addr + 300)
		if len(frame) != 4096 || cap(frame) != 4096 || &frame[0] != &u.Chunk(addr)[0] || u.Offset(addr+300) != 300 {
			t.Errorf("frame %d: %d bytes, capacity %d, offset %d", i, len(frame), cap(frame), u.Offset(addr+300))
		}
		frame[0], frame[4095] = 1, 1
	}
	if _, ok := u.Alloc(); ok {
		t.Error("a fourth of three frames")
	}
}

func TestTooManySockets(t *testing.T) {
	u := newUMEM(t, Config{Frames: 16, RingSize: 16}, maxSockets)
	if err := u.add(&Socket{ifindex: maxSockets + 1}); err == nil {
		t.Error("one socket too many: no error")
	}
	if err := u.add(&Socket{ifindex: 1}); err == nil {
		t.Error("one queue opened twice: no error")
	}
}
