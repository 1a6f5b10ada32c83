package health

import "testing"

func TestOutside(t *testing.T) {
	for _, test := range []struct {
		min, max uint16
		want     PortRange
	}{
		{1024, 65535, PortRange{Min: 512, Max: 1023}},
		{1024, 30000, PortRange{Min: 30001, Max: 65535}},
		{20000, 65000, PortRange{Min: 512, Max: 19999}},
		{1, 65535, PortRange{}}, // none is left: the kernel will have to choose
		{512, 65534, PortRange{Min: 65535, Max: 65535}},
	} {
		if got := outside(PortRange{test.min, test.max}); got != test.want {
			t.Errorf("%d-%d: got %v, want %v", test.min, test.max, got, test.want)
		}
	}
}
