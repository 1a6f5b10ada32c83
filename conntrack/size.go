package conntrack

import (
	"math"
	"math/bits"
)

// A Size says what memory a table takes, in bytes. All but PerLocal is reserved
// when the table is made; the kernel gives the pages as they are used.
type Size struct {
	Connections int   // how many fit: Config.MaxConnections
	Conns       int64 // what packets of known connections touch
	Index       int64 // how they are found
	Lists       int64 // timers, and the order of the half-open
	Registry    int64 // the endpoints behind the IDs, and the header
	Shards      int64 // locks and counts
	Total       int64 // all of the above

	PerLocal int64 // besides, for each local address: its ports
	Known    int64 // besides, where somebody asks by Know
}

// PerConnection returns the bytes that one connection takes, everything
// included but the ports.
func (z Size) PerConnection() float64 { return float64(z.Total) / float64(z.Connections) }

// Measure returns the size of the table that New makes of c. It allocates
// nothing.
func Measure(c Config) Size {
	c = c.withDefaults()
	shards := int64(c.Shards)
	l := layoutOf(c)
	z := Size{
		Connections: c.MaxConnections,
		Conns:       shards * int64(l.capacity*connBytes),
		Index:       shards * int64(l.buckets*bucketBytes),
		Lists:       shards * int64(lines(l.nodes*nodeBytes)),
		Registry:    int64(headerBytes + c.Shards*markBytes + lines(maxBindings*bindingBytes) + lines(maxLocals*localBytes)),
		Shards:      shards * int64(shardBytes+4),
		PerLocal:    shards * int64(portSetBytes(c.Shards)),
		Known:       int64(knownPlaces(c.MaxConnections, c.Shards) / KnownLine * (KnownLine + 1)),
	}
	z.Total = z.Conns + z.Index + z.Lists + z.Registry + z.Shards
	return z
}

// A layout gives the lengths of a shard's arrays.
type layout struct{ capacity, buckets, nodes int }

// Our choices.
const (
	// The hash spreads connections over the shards as chance does, so a shard
	// must hold more than its equal part for the whole table to reach its bound
	// first. Six standard deviations, and a few for shards so small that the
	// normal distribution is no guide: less than once in 10^9 fillings.
	slackDeviations = 6
	slackConns      = 8

	// The index is full to 3/4 when the shard is. One entry in 14 then lies
	// outside its home, where the batch's prefetch does not reach; at 4/5 it
	// would be one in 9, for a byte a connection less.
	loadNum, loadDen = 3, 4
)

func layoutOf(c Config) (l layout) {
	mean := float64(c.MaxConnections) / float64(c.Shards)
	l.capacity = min(c.MaxConnections,
		int(mean+slackDeviations*math.Sqrt(mean))+slackConns)
	l.buckets = 2*l.capacity*loadDen/(bucketEntries*loadNum) + 1
	l.nodes = 2*l.capacity + wheelSize + 1
	return l
}

// Memory returns how many bytes of z are in the memory that the table lies in.
func (z Size) Memory() int { return int(z.Conns + z.Index + z.Lists + z.Registry) }

// portSetBytes returns the heap memory of one local address in one of n shards.
func portSetBytes(n int) int {
	ports := 1 << 16 >> bits.TrailingZeros(uint(n))
	return 2*ports + (ports+7)/8 + 8*fullMemos + 4*cursors + 3*cacheLine
}
