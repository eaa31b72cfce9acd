package sim

import (
	"bufio"
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/dns"
)

type Habit struct{}

type Taken struct {
	At      time.Time
	From    string
	Rcpts   []string
	Content []byte
	Final   int
	Sent    bool
}

type Peer struct {
	n          *Network
	addr       string
	host       *Host
	l          net.Listener
	mu         sync.Mutex
	taken      []Taken
	wg         sync.WaitGroup
}

func NewPeer(n *Network, seed uint64, name, addr string, h Habit) *Peer { return &Peer{n: n, addr: addr} }
func (p *Peer) Start(ctx context.Context) (err error) {
	p.host = p.n.Host(p.addr, "peer "+p.addr)
	p.l, err = p.host.Listen(ctx, "tcp", p.addr+":25")
	if err != nil {
		return err
	}
	p.wg.Go(func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	return nil
}
func (p *Peer) Stop()          { p.l.Close(); p.host.Crash(); p.wg.Wait() }
func (p *Peer) Calm()          {}
func (p *Peer) Taken() []Taken { p.mu.Lock(); defer p.mu.Unlock(); return p.taken }
func (p *Peer) serve(c net.Conn) {
	defer c.Close()
	say := func(s string) bool {
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		_, err := c.Write([]byte(s + "\r\n"))
		return err == nil
	}
	say("220 hi")
	r := bufio.NewReader(c)
	var t Taken
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		switch strings.ToUpper(line[:min(4, len(line))]) {
		case "RCPT":
			to := line[strings.Index(line, "<")+1 : strings.Index(line, ">")]
			if strings.HasPrefix(to, "no-") {
				say("550 no")
				continue
			}
			t.Rcpts = append(t.Rcpts, to)
			say("250 ok")
		case "MAIL", "RSET":
			t = Taken{}
			say("250 ok")
		case "DATA":
			if len(t.Rcpts) == 0 {
				say("503 no")
				continue
			}
			say("354 go")
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				t.Content = append(t.Content, strings.TrimPrefix(line, ".")...)
			}
			t.Final, t.Sent = 250, true
			ok := say("250 ok")
			t.Sent = ok
			p.mu.Lock()
			p.taken = append(p.taken, t)
			p.mu.Unlock()
			t = Taken{}
		case "QUIT":
			say("221 bye")
			return
		case "EHLO":
			say("250-hi\r\n250-8BITMIME\r\n250 PIPELINING")
		default:
			say("250 ok")
		}
	}
}

type Names struct {
	z    *dns.Zone
	Note func(string, string)
}

func NewNames(z *dns.Zone, seed uint64, name string) *Names { return &Names{z: z} }
func (n *Names) Calm()                                       {}
func (n *Names) Lookup(ctx context.Context, name string, t dns.Type) (dns.Answer, error) {
	time.Sleep(time.Millisecond)
	return n.z.Lookup(ctx, name, t)
}

var habits = []Habit{{}, {}, {}, {}, {}}

func (s *Site) misname(k Strike) {}
