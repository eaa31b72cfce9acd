package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// spent runs f and returns what it cost this process for each of n messages.
func spent(n int, f func() error) (figure, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := cpu()
	err := f()
	took := cpu() - began
	runtime.ReadMemStats(&after)
	return figure{
		CPU:    float64(took.Nanoseconds()) / 1000 / float64(n),
		Allocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		Bytes:  float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}, err
}

// cpu is the CPU time of this process, user and kernel.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func serverAlone(l library, n int, pipelined bool) (figure, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := newScript(n, pipelined)
	served := make(chan error, 1)
	listener := newOne(c)
	f, err := spent(n, func() error {
		go func() { served <- l.serve(ctx, listener) }()
		<-c.done
		if c.left > 0 {
			return fmt.Errorf("the server has closed with %d messages left", c.left)
		}
		return nil
	})
	cancel()
	_ = listener.Close()
	return f, errors.Join(err, <-served)
}

func ehlo(pipelined bool) string {
	if pipelined {
		return "250-server.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
	}
	return "250-server.example\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
}

func newYes(pipelined bool) *yes {
	return &yes{greeting: "220 server.example ESMTP\r\n", ehlo: ehlo(pipelined)}
}

func clientAlone(l library, n int, pipelined bool) (figure, error) {
	y := newYes(pipelined)
	f, err := spent(n, func() error { return l.send(context.Background(), y, n) })
	if err == nil && y.Taken != n {
		err = fmt.Errorf("%d messages came of %d", y.Taken, n)
	}
	return f, err
}

// process runs this program in another part, lets f talk to it, and returns the
// CPU time that it took for each of n messages.
func process(n int, args []string, f func(firstLine string) error) (figure, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return figure{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return figure{}, err
	}
	if err := cmd.Start(); err != nil {
		return figure{}, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = f(strings.TrimSpace(line))
	}
	_ = in.Close() // the end, for the process
	err = errors.Join(err, cmd.Wait())
	took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return figure{CPU: float64(took.Nanoseconds()) / 1000 / float64(n)}, err
}

// sessions is how many connections there are at a time over loopback.
const sessions = 4

// serveChild serves on loopback until standard input ends.
func serveChild(ctx context.Context, l library) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
		_ = listener.Close()
	}()
	if err := l.serve(ctx, listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func serverProcess(l library, n int, pipelined bool) (figure, error) {
	return process(n, []string{"serve", l.name}, func(addr string) error {
		var wg sync.WaitGroup
		errs := make([]error, sessions)
		for i := range errs {
			wg.Go(func() { errs[i] = feed(addr, n/sessions, pipelined) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
}

// feed is a client that costs little: it sends what is ready, and counts lines.
func feed(addr string, n int, pipelined bool) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if err := replies(r, 1); err != nil {
		return err
	}
	if _, err := c.Write(hello); err != nil {
		return err
	}
	if err := replies(r, 1); err != nil {
		return err
	}
	all := steps(pipelined)
	for range n {
		for i, step := range all {
			if _, err := c.Write(step); err != nil {
				return err
			}
			want := 1
			if pipelined && i == 0 {
				want = 3
			}
			if err := replies(r, want); err != nil {
				return err
			}
		}
	}
	if _, err := c.Write(quit); err != nil {
		return err
	}
	return replies(r, 1)
}

// replies reads so many replies that say yes.
func replies(r *bufio.Reader, n int) error {
	for n > 0 {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case len(line) < 4 || line[0] != '2' && line[0] != '3':
			return fmt.Errorf("the server says %q", line)
		case line[3] == ' ':
			n--
		}
	}
	return nil
}

// sendChild sends messages over several connections.
func sendChild(ctx context.Context, l library, addr string, n int) error {
	var wg sync.WaitGroup
	errs := make([]error, sessions)
	for i := range errs {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				err = l.send(ctx, c, n/sessions)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	fmt.Println("sent")
	return errors.Join(errs...)
}

func clientProcess(l library, n int, pipelined bool) (figure, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return figure{}, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { agree(c, pipelined) })
		}
	})
	f, err := process(n, []string{"send", l.name, listener.Addr().String(), strconv.Itoa(n)}, func(line string) error {
		if line != "sent" {
			return fmt.Errorf("the client says %q", line)
		}
		return nil
	})
	_ = listener.Close()
	wg.Wait()
	return f, err
}

// agree says yes to all that comes over a connection.
func agree(c net.Conn, pipelined bool) {
	defer c.Close()
	y := newYes(pipelined)
	y.out, y.greeting = append(y.out, y.greeting...), ""
	buf := make([]byte, 64<<10)
	for {
		if len(y.out) > 0 {
			if _, err := c.Write(y.out); err != nil {
				return
			}
			y.out = y.out[:0]
		}
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := y.Write(buf[:n]); err != nil {
			return
		}
	}
}
