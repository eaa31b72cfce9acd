package admin

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postrider/postrider"
)

// Metrics are what Prometheus reads of a server. They are made by NewMetrics and
// fed by what happens; the queue is looked at when somebody asks.
type Metrics struct {
	registry    *prometheus.Registry
	accepted    prometheus.Counter
	notTaken    prometheus.Counter // mail
	logins      prometheus.Counter // that were not taken
	delivered   prometheus.Counter
	deferred    prometheus.Counter
	failed      prometheus.Counter
	connections *prometheus.GaugeVec
	commit      prometheus.Histogram
	accept      prometheus.Histogram
}

// NewMetrics returns metrics with a registry of their own.
func NewMetrics() *Metrics {
	buckets := prometheus.ExponentialBuckets(0.0001, 2, 18) // 0.1 ms to 13 s
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postrider_accepted_total", Help: "Messages that we answered 250 for."}),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "postrider_connections", Help: "Open connections, by listener."}, []string{"listener"}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "postrider_commit_seconds", Help: "Time to make a batch durable.", Buckets: buckets}),
		accept: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "postrider_accept_seconds", Help: "Time from DATA to its last reply, the client's sending included.", Buckets: buckets}),
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_refused_total", Help: "Senders, recipients and messages (mail) and logins (login) that we did not take."}, []string{"what"})
	m.notTaken, m.logins = refused.WithLabelValues("mail"), refused.WithLabelValues("login")
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postrider_attempts_total", Help: "Attempts at a recipient, by what came of them."}, []string{"result"})
	m.delivered = attempts.WithLabelValues(postrider.ResultDelivered.String())
	m.deferred = attempts.WithLabelValues(postrider.ResultDeferred.String())
	m.failed = attempts.WithLabelValues(postrider.ResultFailed.String())
	m.registry.MustRegister(m.accepted, refused, attempts, m.connections, m.commit, m.accept,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Listener makes the connections of a listener count from zero.
func (m *Metrics) Listener(name string) { m.connections.WithLabelValues(name) }

// Connected counts a connection of a listener in, and the function that it
// returns counts it out.
func (m *Metrics) Connected(listener string) (closed func()) {
	g := m.connections.WithLabelValues(listener)
	g.Inc()
	return g.Dec
}

// Committed takes down how long a commit took.
func (m *Metrics) Committed(d time.Duration) { m.commit.Observe(d.Seconds()) }

// Answered takes down how long DATA took to be answered.
func (m *Metrics) Answered(d time.Duration) { m.accept.Observe(d.Seconds()) }

// Event counts a change of fate.
func (m *Metrics) Event(e *postrider.Event) {
	switch e.Kind {
	case postrider.EventAccepted:
		if e.Source.Listener != "" {
			m.accepted.Inc()
		}
	case postrider.EventRefused:
		if LoginRefused(e) {
			m.logins.Inc()
		} else {
			m.notTaken.Inc()
		}
	case postrider.EventRecipient:
		switch e.State {
		case postrider.Delivered:
			m.delivered.Inc()
		case postrider.Failed:
			m.failed.Inc()
		default:
			m.deferred.Inc()
		}
	}
}

// A QueueStat is how much waits.
type QueueStat struct {
	Queued, Active, Deferred, Held int       // recipients
	Oldest                         time.Time // arrival of the oldest message; zero: none
	Drafts                         int64     // octets of contents on their way in, in memory
}

// Limits are how much there may be of what takes memory.
func (m *Metrics) Limits(all map[string]float64) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "postrider_limit",
		Help: "How much there may be: recipients that wait, connections, octets of contents on their way in, octets of memory."}, []string{"what"})
	for what, n := range all {
		g.WithLabelValues(what).Set(n)
	}
	m.registry.MustRegister(g)
}

// Watch adds what is found by looking at the queue: the recipients in each
// state, and the age of the oldest message. It is called once.
func (m *Metrics) Watch(stat func() QueueStat, now func() time.Time) {
	m.registry.MustRegister(&queueCollector{stat: stat, now: now,
		recipients: prometheus.NewDesc("postrider_queue_recipients", "Recipients in the queue, by state.", []string{"state"}, nil),
		drafts:     prometheus.NewDesc("postrider_drafts_bytes", "Octets of contents on their way in that are in memory.", nil, nil),
		oldest:     prometheus.NewDesc("postrider_queue_oldest_seconds", "Age of the oldest message in the queue; 0 when there is none.", nil, nil),
	})
}

func (m *Metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, Timeout: 30 * time.Second, ErrorHandling: promhttp.ContinueOnError})
}

// lookEvery is how long one look at the queue serves everybody who asks: it
// costs time that grows with the queue.
const lookEvery = 5 * time.Second

// queueCollector looks at the queue.
type queueCollector struct {
	stat                       func() QueueStat
	now                        func() time.Time
	recipients, oldest, drafts *prometheus.Desc

	mu   sync.Mutex
	last QueueStat
	at   time.Time // of last
}

func (c *queueCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.recipients
	out <- c.oldest
	out <- c.drafts
}

func (c *queueCollector) Collect(out chan<- prometheus.Metric) {
	now := c.now()
	c.mu.Lock()
	last, age := c.last, now.Sub(c.at)
	c.mu.Unlock()
	if age < 0 || age >= lookEvery {
		last = c.stat()
		c.mu.Lock()
		c.last, c.at = last, now
		c.mu.Unlock()
	}
	for _, s := range []struct {
		state string
		n     int
	}{{StateQueued, last.Queued}, {StateActive, last.Active}, {StateDeferred, last.Deferred}, {StateHeld, last.Held}} {
		out <- prometheus.MustNewConstMetric(c.recipients, prometheus.GaugeValue, float64(s.n), s.state)
	}
	oldest := 0.0
	if !last.Oldest.IsZero() {
		oldest = max(0, now.Sub(last.Oldest).Seconds())
	}
	out <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, oldest)
	out <- prometheus.MustNewConstMetric(c.drafts, prometheus.GaugeValue, float64(last.Drafts))
}
