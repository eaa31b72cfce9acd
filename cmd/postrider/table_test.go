package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
)

// writes counts.
type writes int

func (w *writes) Write(p []byte) (int, error) { *w++; return len(p), nil }

// A table of ten thousand lines is not a hundred thousand writes.
func TestTableIsWrittenInPieces(t *testing.T) {
	var w writes
	a := &app{stdout: &w, cli: &cli{}}
	stats := make([]admin.DestStat, 10_000)
	for i := range stats {
		stats[i] = admin.DestStat{Dest: postrider.Dest(fmt.Sprintf("mx:d%d.example", i)), Deferred: 1, Oldest: time.Now()}
	}
	if err := a.statTable(stats); err != nil || w == 0 || int(w) > len(stats)/10 {
		t.Errorf("%d writes, %v", w, err)
	}
}
