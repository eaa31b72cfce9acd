package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	largeSize     = 10 << 20
	largeMessages = 40
	diskTime      = 2 * time.Second
	// diskSync is how fast the disk takes new files of 10 MiB.
	diskSync = "disk"
)

var largeCell = cell{4, true}

// large measures relaying of large messages, in MB a second.
func large(b *bench) ([]row, error) {
	rates, cpus := series{}, series{}
	h, err := b.sink(settings{})
	if err != nil {
		return nil, err
	}
	defer h.stop()
	const mb = float64(largeSize) / 1e6
	for range b.rounds {
		client := clientMode{conns: 4, uses: largeMessages}
		err := b.each(func(w contender) error {
			i, err := w.start(b, mode{next: h.addr})
			if err != nil {
				return err
			}
			defer i.end()
			n := max(8, int(float64(b.n(largeMessages))*max(w.part, 0.5)))
			if _, err := b.through(i, h, largeCell.source(i.addr, 4, largeSize)); err != nil {
				return err // before it counts
			}
			got, err := b.through(i, h, largeCell.source(i.addr, n, largeSize))
			if err != nil {
				return err
			}
			rates.add(w.name, got.rate*mb)
			cpus.add(w.name, got.cpu/1000/float64(largeSize)*(1<<30))
			if w.name == ours {
				client = got.client
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		hops := series{}
		if err := b.hops(hops, largeCell.source("", b.n(largeMessages*4), largeSize), client); err != nil {
			return nil, err
		}
		rates.add(hop1, hops.of(hop1).Median*mb)
		disk, err := b.diskRate()
		if err != nil {
			return nil, err
		}
		rates.add(diskSync, disk)
		rates.add("bound", min(disk, hops.of(hop1).Median*mb/2))
	}
	r := rowOf("10 MiB messages, relay, 4 sessions", "MB/s", rates, ours, "Postfix", "Exim", hop1, diskSync)
	r.beside(rates, "# x Postfix", 2, "Postfix")
	r.Checks = append(r.Checks, atLeast("# of min(disk, h1/2)", rates.ratios(ours, "bound").Median, 0.5))
	return []row{r, rowOf("CPU per GiB relayed", "s", cpus, ours, "Postfix", "Exim")}, nil
}

// diskRate is how many MB a second the disk takes in files of 10 MiB, each synced.
func (b *bench) diskRate() (float64, error) {
	name := filepath.Join(b.root, "probe")
	content := make([]byte, largeSize)
	for i := range content {
		content[i] = byte(i * 7)
	}
	written, began := 0, time.Now()
	for time.Since(began) < diskTime {
		f, err := os.Create(name)
		if err != nil {
			return 0, err
		}
		_, err = f.Write(content)
		if err == nil {
			err = f.Sync()
		}
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = os.Remove(name)
		}
		if err != nil {
			return 0, fmt.Errorf("probe of the disk: %w", err)
		}
		written += largeSize
	}
	return float64(written) / 1e6 / time.Since(began).Seconds(), nil
}
