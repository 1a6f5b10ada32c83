//go:build !amd64

package conntrack

const seesTogether = false

func seeAll(*Key, *uint32, *uint32, int, *shardLines) uint64 {
	panic("conntrack: not for this processor")
}
