package estimator

const (
	// shapeMin observations of all backends that share a shape are needed before another one is taken,
	// which has to predict better by shapeWorth.
	shapeMin   = 16
	shapeWorth = 0.85
	// errorWeight is that of an observation in the mean error of a shape, once there are many.
	errorWeight = 0.02
)

// Shape learns which shape of cost foretells best what jobs take, for backends that are alike: one GPU class with
// one model. Each is judged by the square of the log error that it would have made of a job before the job was
// learned from. Not safe for concurrent use.
type Shape struct {
	n      int
	errors [shapes]float64
	best   int
}

// take takes in the errors of one job and says whether another shape has become the best.
func (s *Shape) take(errors *[shapes]float64) (changed bool) {
	s.n++
	weight := max(errorWeight, 1/float64(s.n))
	for i, e := range errors {
		s.errors[i] += weight * (e*e - s.errors[i])
	}
	least := s.best
	for i, e := range s.errors {
		if e < s.errors[least] {
			least = i
		}
	}
	if s.n < shapeMin || s.errors[least] > shapeWorth*s.errors[s.best] {
		return false
	}
	s.best = least
	return true
}
