//! Channels of generated clients over TLS. Used by the tests of the server as well.

use std::{io, net::SocketAddr, sync::Arc};

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, pem::PemObject},
    },
};
use tonic::transport::{Channel, Endpoint, Error};

/// A connection to a server whose certificate an authority of `authorities` (PEM) has issued for
/// its address.
pub async fn connect(address: SocketAddr, authorities: &str) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(address.ip().into(), socket).await
}

/// A channel on such connections.
pub async fn channel(address: SocketAddr, authorities: &str) -> Result<Channel, Error> {
    let authorities = authorities.to_owned();
    let connector = tower::service_fn(move |_| {
        let authorities = authorities.clone();
        async move { connect(address, &authorities).await.map(TokioIo::new) }
    });
    let uri = format!("http://{address}");
    Endpoint::from_shared(uri).expect("a uri").connect_with_connector(connector).await
}
