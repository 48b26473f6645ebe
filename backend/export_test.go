package backend

import "time"

// SetUploadStall shortens the pause that an upload may have.
func (s *Server) SetUploadStall(d time.Duration) { s.stall = d }

// UploadsUnderWay is how many bodies are being read.
func (s *Server) UploadsUnderWay() int { return int(s.uploads.Load()) }

// UploadsMax is how many may be.
const UploadsMax = uploadsMax

// SetTendEvery has the server look more often whether slots or models should come or go.
func (s *Server) SetTendEvery(d time.Duration) { s.tendEvery = d }
