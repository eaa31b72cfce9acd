package sim

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/dns"
)

// testZone is a domain with one mail exchanger.
func testZone() *dns.Zone {
	return dns.NewZone().MX("b.example", 10, "mx.b.example").A("mx.b.example", "10.0.0.2")
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		kind string
		t    dns.Type
		want string
		err  error
	}{
		{"", dns.TypeMX, "[{10 mx.b.example}] false", nil},
		{NameServFail, dns.TypeMX, "[] false", dns.ErrServFail},
		{NameTimeout, dns.TypeMX, "[] false", dns.ErrTimeout},
		{NameDenied, dns.TypeMX, "[] true", nil},
		{NameMoved, dns.TypeMX, "[{10 elsewhere.example}] false", nil},
		{NameSelf, dns.TypeMX, "[{10 elsewhere.example}] false", nil},
		{NameSelf, dns.TypeA, "[] false", nil},
		{NameLoop, dns.TypeMX, "[] false", dns.ErrLoop},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(1)
			s := NewNames(n, "a", testZone())
			client := s.Client()
			start := time.Now()
			if c.kind != "" {
				s.Fault(NameFault{Kind: c.kind, Name: "B.example.", From: start.Add(time.Minute), To: start.Add(time.Hour), Host: "elsewhere.example"})
			}
			for _, at := range []time.Duration{0, 30 * time.Minute, 2 * time.Hour} {
				time.Sleep(time.Until(start.Add(at)))
				a, err := client.Lookup(t.Context(), "b.example", c.t)
				want, wantErr := c.want, c.err
				if at != 30*time.Minute && c.t == dns.TypeMX {
					want, wantErr = "[{10 mx.b.example}] false", nil
				}
				if got := fmt.Sprint(a.MX, a.NXDomain); got != want || !errors.Is(err, wantErr) {
					t.Errorf("%s at %v: %s, %v, want %s, %v", c.kind, at, got, err, want, wantErr)
				}
			}
			if hit := c.kind != "" && c.t == dns.TypeMX; hit != (n.Fired()[c.kind] == 1) {
				t.Error(c.kind, n.Fired())
			}
			if s.Denied("b.example", start, start.Add(time.Hour)) != (c.kind == NameDenied) || s.Denied("b.example", start.Add(time.Hour), start.Add(3*time.Hour)) {
				t.Error(s.Denials())
			}
		})
	}
}

// A thousand mail exchangers, and a resolver that answers when nobody waits.
func TestNamesCrowdAndTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		s := NewNames(n, "a", testZone())
		client := s.Client()
		now := time.Now()
		s.Fault(NameFault{Kind: NameCrowd, Name: "b.example", From: now, To: now.Add(time.Hour)})
		s.Fault(NameFault{Kind: NameTimeout, Name: "mx.b.example", From: now, To: now.Add(time.Hour)})
		a, err := client.Lookup(t.Context(), "b.example", dns.TypeMX)
		if err != nil || len(a.MX) != crowd+1 || dns.SortMX(a.MX, nil)[30].Host != "mx.b.example" {
			t.Error(err, len(a.MX))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := client.Lookup(ctx, "mx.b.example", dns.TypeA); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Error(err, time.Since(start))
		}
		if n.Fired()[NameTimeout] != 1 || n.Fired()[NameCrowd] != 1 {
			t.Error(n.Fired())
		}
		s.Calm()
		if _, err := client.Lookup(t.Context(), "mx.b.example", dns.TypeA); err != nil {
			t.Error(err)
		}
	})
}

// What befalls packets leaves a question without an answer, or with the right one.
func TestNamesPackets(t *testing.T) {
	for kind, all := range map[string]bool{ // whether all are answered
		NameTruncated: false, NameLost: false, NameGarbled: false, NameForged: true, NameLame: true, NameOld: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNetwork(1)
			s := NewNames(n, "a", testZone())
			now := time.Now()
			s.Fault(NameFault{Kind: kind, Name: "b.example", From: now, To: now.Add(24 * time.Hour)})
			right, failed := 0, 0
			for range 500 {
				a, err := s.Client().Lookup(t.Context(), "b.example", dns.TypeMX)
				switch {
				case err == nil && len(a.MX) == 1 && a.MX[0].Host == "mx.b.example":
					right++
				case err == nil:
					t.Errorf("%s: %+v", kind, a)
				case !all:
					failed++
				default:
					t.Errorf("%s: %v", kind, err)
				}
				time.Sleep(time.Second)
			}
			if right == 0 || failed == 0 && !all || n.Fired()[kind] == 0 {
				t.Errorf("%s: %d right, %d failed, %v", kind, right, failed, n.Fired())
			}
		})
	}
}
