package flowmesh

import "time"

// BreakCommits has the commits of a subscription fail, by a group that no server takes.
func BreakCommits(s *Subscription) { s.group = "a\x00b" }

// Leased makes jobs that look leased.
func Leased(q *Queue, ids ...string) []*Job {
	jobs := make([]*Job, len(ids))
	for i, id := range ids {
		jobs[i] = &Job{ID: id, queue: q, until: time.Now().Add(time.Hour)}
	}
	return jobs
}
