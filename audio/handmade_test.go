package audio

import (
	"encoding/binary"
	"math"
)

// Files made by hand: seeds for fuzzing where there is no ffmpeg, and hostile ones that no encoder
// would make.

// ebml is an element with a size of eight bytes; unknown leaves the size open.
func ebml(id uint32, body []byte) []byte { return append(ebmlHeader(id, int64(len(body))), body...) }

func ebmlHeader(id uint32, size int64) []byte {
	var b []byte
	for shift := 24; shift >= 0; shift -= 8 {
		if v := byte(id >> shift); v != 0 || len(b) > 0 {
			b = append(b, v)
		}
	}
	return binary.BigEndian.AppendUint64(b, 1<<56|uint64(size))
}

const ebmlUnknown = 1<<56 - 1

func opusHead(channels, skip int) []byte {
	b := append([]byte("OpusHead\x01"), byte(channels))
	b = binary.LittleEndian.AppendUint16(b, uint16(skip))
	return append(b, 0x80, 0xBB, 0, 0, 0, 0, 0)
}

// webmFile has clusters of 32 s at most, of blocks of 20 ms, like a browser's recording.
func webmFile(duration float64, blocks, size int) []byte {
	info := ebml(mkvScale, []byte{0x0F, 0x42, 0x40})
	if duration > 0 {
		info = append(info, ebml(mkvDuration, binary.BigEndian.AppendUint64(nil, math.Float64bits(duration*1000)))...)
	}
	track := ebml(mkvNumber, []byte{1})
	track = append(track, ebml(mkvType, []byte{2})...)
	track = append(track, ebml(mkvCodec, []byte("A_OPUS"))...)
	track = append(track, ebml(mkvPrivate, opusHead(1, 312))...)
	track = append(track, ebml(mkvAudio, append(ebml(mkvRate, binary.BigEndian.AppendUint64(nil, math.Float64bits(48000))), ebml(mkvChannels, []byte{1})...))...)
	b := ebml(ebmlHead, ebml(ebmlDocType, []byte("webm")))
	b = append(b, ebmlHeader(mkvSegment, ebmlUnknown)...)
	b = append(b, ebml(mkvInfo, info)...)
	b = append(b, ebml(mkvTracks, ebml(mkvTrack, track))...)
	for i := range blocks {
		const perCluster = 1600
		if i%perCluster == 0 {
			b = append(b, ebmlHeader(mkvCluster, ebmlUnknown)...)
			b = append(b, ebml(mkvTimestamp, binary.BigEndian.AppendUint32(nil, uint32(i*20)))...)
		}
		block := binary.BigEndian.AppendUint16([]byte{0x81}, uint16(i%perCluster*20))
		block = append(block, 0x80, 9<<3) // SILK, wide band, 20 ms, one frame
		b = append(b, ebml(mkvSimpleBlock, append(block, randomBytes(int64(i), size)...))...)
	}
	return b
}

// oggPageBytes is a page of whole packets.
func oggPageBytes(serial uint32, granule int64, flags byte, packets ...[]byte) []byte {
	var segments, body []byte
	for _, p := range packets {
		n := len(p)
		for ; n >= 255; n -= 255 {
			segments = append(segments, 255)
		}
		segments = append(segments, byte(n))
		body = append(body, p...)
	}
	b := append([]byte("OggS\x00"), flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(granule))
	b = binary.LittleEndian.AppendUint32(b, serial)
	b = append(b, make([]byte, 8)...) // page number and checksum, which nobody reads here
	b = append(b, byte(len(segments)))
	return append(append(b, segments...), body...)
}

// oggOpusFile holds pages of packets that are all the same.
func oggOpusFile(packet []byte, pages, perPage int) []byte {
	b := oggPageBytes(7, 0, 2, opusHead(1, 312))
	b = append(b, oggPageBytes(7, 0, 0, []byte("OpusTags\x00\x00\x00\x00\x00\x00\x00\x00"))...)
	granule := int64(0)
	for range pages {
		packets := make([][]byte, perPage)
		for i := range packets {
			packets[i] = packet
			granule += opusSamples(packet)
		}
		b = append(b, oggPageBytes(7, granule, 0, packets...)...)
	}
	return b
}

// vorbisFile is an Ogg file with the given setup header behind the right others.
func vorbisFile(setup []byte) []byte {
	start := append([]byte("\x01vorbis\x00\x00\x00\x00\x01\x80\x3E\x00\x00"), make([]byte, 12)...)
	start = append(start, 0xB8, 1)
	b := oggPageBytes(9, 0, 2, start)
	b = append(b, oggPageBytes(9, 0, 0, []byte("\x03vorbis\xFF\xFF\xFF\xFF"), setup)...)
	for i := range int64(4) {
		b = append(b, oggPageBytes(9, 1024*(i+1), 0, []byte{0}, []byte{0, 1, 2, 3})...)
	}
	return b
}

// A bitWriter packs bits as Vorbis does.
type bitWriter struct {
	b   []byte
	bit int
}

func (w *bitWriter) put(v uint32, n int) *bitWriter {
	for i := range n {
		if w.bit%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.bit/8] |= byte(v>>i&1) << (w.bit % 8)
		w.bit++
	}
	return w
}

// vorbisBook begins a setup header of one codebook.
func vorbisBook(dims, entries uint32) *bitWriter {
	w := &bitWriter{b: []byte("\x05vorbis"), bit: 56}
	return w.put(0, 8).put(0x564342, 24).put(dims, 16).put(entries, 24)
}

// flacSilence is a FLAC file of frames that hold one value 65535 times in 16 bytes.
func flacSilence(total int64, frames int) []byte {
	b := append([]byte("fLaC"), 0x80, 0, 0, 34)
	info := binary.BigEndian.AppendUint16(nil, 16)
	info = append(binary.BigEndian.AppendUint16(info, 65535), make([]byte, 6)...)
	info = binary.BigEndian.AppendUint64(info, 16000<<44|15<<36|uint64(total))
	b = append(b, append(info, make([]byte, 16)...)...)
	for i := range frames {
		f := []byte{0xFF, 0xF8, 0x70, 0x08}
		f = append(f, flacNumberBytes(i)...)
		f = append(f, 0xFF, 0xFE)
		f = append(f, crc8(f), 0, 0x12, 0x34)
		b = append(b, binary.BigEndian.AppendUint16(f, flacCRC16(f))...)
	}
	return b
}

func flacNumberBytes(v int) []byte {
	if v < 0x80 {
		return []byte{byte(v)}
	}
	if v < 0x800 {
		return []byte{0xC0 | byte(v>>6), 0x80 | byte(v&0x3F)}
	}
	return []byte{0xE0 | byte(v>>12), 0x80 | byte(v>>6&0x3F), 0x80 | byte(v&0x3F)}
}

// mp3Frames are frames of MPEG-1 layer 3, 128 kbit/s, 44.1 kHz, of the given contents.
func mp3Frames(n int, body func(i int) []byte) []byte {
	var b []byte
	for i := range n {
		f := make([]byte, 417)
		copy(f[4:], body(i))
		copy(f, "\xFF\xFB\x90\x00")
		b = append(b, f...)
	}
	return b
}

func adtsFramesBytes(n int) []byte {
	var b []byte
	for range n {
		size := 100
		f := make([]byte, size)
		copy(f, []byte{0xFF, 0xF1, 0x50, 0x80 | byte(size>>11), byte(size >> 3), byte(size<<5) | 0x1F, 0xFC})
		b = append(b, f...)
	}
	return b
}

func mp4BoxBytes(kind string, body ...byte) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))), kind...), body...)
}

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// mp4Movie is a file with one sound track of the given length.
func mp4Movie(codec string, scale, duration uint32) []byte {
	be := binary.BigEndian
	head := func(kind string) []byte {
		b := make([]byte, 100)
		be.PutUint32(b[12:], scale)
		be.PutUint32(b[16:], duration)
		return mp4BoxBytes(kind, b...)
	}
	tkhd := make([]byte, 84)
	be.PutUint32(tkhd[12:], 1)
	entry := make([]byte, 28)
	be.PutUint16(entry[16:], 2)
	be.PutUint32(entry[24:], 44100<<16)
	stsd := append([]byte{0, 0, 0, 0, 0, 0, 0, 1}, mp4BoxBytes(codec, entry...)...)
	hdlr := append(make([]byte, 8), "soun\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	trak := join(mp4BoxBytes("tkhd", tkhd...), mp4BoxBytes("mdia", join(head("mdhd"), mp4BoxBytes("hdlr", hdlr...),
		mp4BoxBytes("minf", mp4BoxBytes("stbl", mp4BoxBytes("stsd", stsd...)...)...))...))
	return join(mp4BoxBytes("ftyp", []byte("isom\x00\x00\x02\x00isom")...), mp4BoxBytes("mdat", make([]byte, 300)...),
		mp4BoxBytes("moov", join(head("mvhd"), mp4BoxBytes("trak", trak...))...))
}

// seeds is one small file of every kind, made without any encoder.
func seeds() map[string][]byte {
	return map[string][]byte{
		"wav":     wav16(1, 8000, speech(0.05, 8000)),
		"wav mu":  wavWith(wavMuLaw, 2, 8000, 8, randomBytes(1, 500)),
		"rf64":    rf64(wav16(1, 8000, speech(0.05, 8000)), 800),
		"flac":    flacSilence(0, 3),
		"opus":    oggOpusFile(append([]byte{9 << 3}, randomBytes(2, 40)...), 3, 4),
		"celt":    oggOpusFile(append([]byte{31<<3 | 4}, randomBytes(3, 120)...), 3, 4),
		"vorbis":  vorbisFile(vorbisBook(2, 4).put(0, 1).put(0, 1).put(1, 5).put(1, 5).put(1, 5).put(1, 5).put(0, 4).b),
		"webm":    webmFile(0, 12, 30),
		"mp3":     mp3Frames(8, func(i int) []byte { return randomBytes(int64(i), 413) }),
		"mp3 tag": join([]byte("ID3\x03\x00\x00\x00\x00\x00\x0A"), make([]byte, 10), mp3Frames(4, func(int) []byte { return append(make([]byte, 32), "Info\x00\x00\x00\x01\x00\x00\x00\x03"...) })),
		"adts":    adtsFramesBytes(6),
		"mp4":     mp4Movie("mp4a", 44100, 88200),
		"text":    []byte("<html><body>Not found</body></html>"),
	}
}
