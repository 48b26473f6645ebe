package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

const certFile, keyFile = "cert.pem", "key.pem"

// certificate is one for the loopback interface that this program has signed itself, as PEM.
type certificate struct {
	cert, key []byte
	known     *x509.CertPool
}

var ourCertificate = sync.OnceValues(func() (certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "faults"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return certificate{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certificate{}, err
	}
	c := certificate{
		cert:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}),
		key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		known: x509.NewCertPool(),
	}
	c.known.AppendCertsFromPEM(c.cert)
	return c, nil
})

// writeCertificate puts it where the balancer's configuration says.
func (e *env) writeCertificate() error {
	c, err := ourCertificate()
	if err != nil {
		return err
	}
	if _, err := e.write(certFile, string(c.cert)); err != nil {
		return err
	}
	_, err = e.write(keyFile, string(c.key))
	return err
}

func (s setup) scheme() string {
	if s.tls {
		return "https"
	}
	return "http"
}

// secured speaks HTTP/1.1 over TLS, and keeps connections as most clients do.
func secured() (*http.Client, error) {
	c, err := ourCertificate()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: c.known, NextProtos: []string{"http/1.1"}}, MaxIdleConnsPerHost: 100, IdleConnTimeout: time.Minute,
	}}, nil
}
