package tasks

import (
	"container/heap"
	"math"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"golang.org/x/time/rate"
)

// remembered is how long a name stays taken after its task has ended: "up to
// 24 hours" (CreateTaskRequest.task).
const remembered = 24 * time.Hour

// retention is how old a task may become (CreateQueue).
const retention = 31 * 24 * time.Hour

// queue is a queue with its tasks. The server's lock guards it.
type queue struct {
	config  *cloudtaskspb.Queue
	tasks   map[string]*task // by ID
	pending schedule         // those that are not under way
	running int
	limiter *rate.Limiter
	timer   *time.Timer          // dispatches when the next task may go; nil before the first
	ended   map[string]time.Time // IDs of tasks that ended -> when they are free again
	sweep   int                  // size at which free ones are looked for
	deleted bool
}

func newQueue(config *cloudtaskspb.Queue) *queue {
	q := &queue{tasks: map[string]*task{}, ended: map[string]time.Time{}, sweep: 1024}
	q.configure(config)
	return q
}

// configure sets the queue's configuration, which is complete.
func (q *queue) configure(config *cloudtaskspb.Queue) {
	q.config = config
	limits := config.GetRateLimits()
	if q.limiter == nil {
		q.limiter = rate.NewLimiter(rate.Limit(limits.GetMaxDispatchesPerSecond()), int(limits.GetMaxBurstSize()))
		return
	}
	at := time.Now()
	q.limiter.SetLimitAt(at, rate.Limit(limits.GetMaxDispatchesPerSecond()))
	q.limiter.SetBurstAt(at, int(limits.GetMaxBurstSize()))
}

// burst is max_burst_size for a rate.
func burst(perSecond float64) int32 { return int32(max(1, math.Ceil(perSecond))) }

// taken reports whether a task of that ID is there or ended lately.
func (q *queue) taken(id string, at time.Time) bool {
	if q.tasks[id] != nil {
		return true
	}
	free, ended := q.ended[id]
	return ended && at.Before(free)
}

// remember keeps an ID taken. IDs that are free are forgotten whenever their
// number has doubled, so that the cost of it is constant per task.
func (q *queue) remember(id string, until time.Time) {
	q.ended[id] = until
	if len(q.ended) < q.sweep {
		return
	}
	at := time.Now()
	for id, free := range q.ended {
		if !at.Before(free) {
			delete(q.ended, id)
		}
	}
	q.sweep = max(1024, 2*len(q.ended))
}

// rest has the queue not wake by itself.
func (q *queue) rest() {
	if q.timer != nil {
		q.timer.Stop()
	}
}

// retry is how a task of the queue is retried: its own way goes before.
func (q *queue) retry(t *task) *cloudtaskspb.RetryConfig {
	if own := t.proto.GetRetryConfig(); own != nil {
		return own
	}
	return q.config.GetRetryConfig()
}

// backoff is the pause after so many failed attempts of a task: doubling, and
// from max_doublings on growing by the same step
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues#RetryConfig).
func backoff(retry *cloudtaskspb.RetryConfig, failures int) time.Duration {
	pause, longest := retry.GetMinBackoff().AsDuration(), retry.GetMaxBackoff().AsDuration()
	step := pause
	for i := 1; i < failures && pause < longest; i++ {
		pause += step
		if i <= int(retry.GetMaxDoublings()) {
			step = pause
		}
	}
	return min(pause, longest)
}

// exhausted reports whether a task that has failed so often, first attempted
// at first, is not to be tried again.
func exhausted(retry *cloudtaskspb.RetryConfig, failures int, first, at time.Time) bool {
	attempts, duration := retry.GetMaxAttempts() != -1, retry.GetMaxRetryDuration().AsDuration() > 0
	if !attempts && !duration {
		return false
	}
	return (!attempts || failures >= int(retry.GetMaxAttempts())) &&
		(!duration || at.Sub(first) >= retry.GetMaxRetryDuration().AsDuration())
}

// schedule holds tasks, the next that is due first.
type schedule []*task

var _ heap.Interface = (*schedule)(nil)

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due.Before(s[j].due) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].position, s[j].position = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	t, _ := x.(*task)
	t.position = len(*s)
	*s = append(*s, t)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	t := (*s)[last]
	(*s)[last], *s = nil, (*s)[:last]
	return t
}

// wait puts a task into the schedule.
func (q *queue) wait(t *task, due time.Time) {
	t.due = due
	heap.Push(&q.pending, t)
}

// take takes a task out of the schedule.
func (q *queue) take(t *task) { heap.Remove(&q.pending, t.position) }
