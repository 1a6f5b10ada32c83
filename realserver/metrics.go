package realserver

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The metrics of fnatrs.
var (
	buildInfo       = desc("build_info", "Always 1.", "version")
	startTime       = desc("start_time_seconds", "When fnatrs started, in seconds since 1970.")
	featureInfo     = desc("feature", "1 if the kernel has a feature, else 0.", "feature")
	eventsTotal     = desc("events_total", "What became of connections, notices and questions, by the counters of fnatrs status.", "event")
	mappingsNow     = desc("mappings", "Clients that are known where no socket holds them.", "state")
	mappingCapacity = desc("mappings_capacity", "Mappings of each state that fit.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fnatrs_"+name, help, labels, nil)
}

// metricsHandler returns the handler of the metrics endpoint: /metrics, with the
// Go runtime's and the process's own figures, and nothing else.
func (a *answerer) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{a}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return mux
}

// A collector makes metrics of a status.
type collector struct{ *answerer }

// Describe implements prometheus.Collector.
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{buildInfo, startTime, featureInfo, eventsTotal, mappingsNow, mappingCapacity} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	s, err := c.status()
	if err != nil {
		to <- prometheus.NewInvalidMetric(eventsTotal, err)
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(buildInfo, 1, s.Version)
	gauge(startTime, float64(s.Started.UnixMilli())/1000)
	for _, f := range s.Features {
		there := 1.0
		if f.Missing != "" {
			there = 0
		}
		gauge(featureInfo, there, f.Name)
	}
	for _, n := range s.Counters {
		to <- prometheus.MustNewConstMetric(eventsTotal, prometheus.CounterValue, float64(n.Count), n.Name)
	}
	gauge(mappingsNow, float64(s.Mappings.Handshakes), string(Handshaking))
	gauge(mappingsNow, float64(s.Mappings.Noticed), string(Unused))
	gauge(mappingsNow, float64(s.Mappings.Used), string(Used))
	gauge(mappingCapacity, float64(s.Mappings.Capacity))
}
