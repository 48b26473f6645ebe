package backend

import "time"

// SetUploadStall shortens the pause that an upload may have.
func (s *Server) SetUploadStall(d time.Duration) { s.stall = d }
