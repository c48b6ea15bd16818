//! What a server offers beside the six services.

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

network_rules! {
    async fn the_standard_health_service_knows_every_service(w) {
        let mut health = HealthClient::new(w.link.clone());
        for service in [
            "",
            "flowmesh.v1.HealthService",
            "flowmesh.v1.StreamService",
            "flowmesh.v1.QueueService",
            "flowmesh.v1.KVService",
        ] {
            let reply =
                health.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
            assert_eq!(reply.status(), ServingStatus::Serving, "{service}");
        }
        let unknown = health.check(HealthCheckRequest { service: "no".into() }).await;
        assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    }

    async fn a_watch_of_the_standard_health_service_sees_the_stop(mut w) {
        let mut health = HealthClient::new(w.link.clone());
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        w.stop().await;
        // Told that it stops, or just ended: the call does not hold up the stop.
        while let Ok(Some(reply)) = watch.message().await {
            assert_eq!(reply.status(), ServingStatus::NotServing);
        }
    }

    async fn reflection_lists_the_services_and_their_file(w) {
        let mut reflection = ServerReflectionClient::new(w.link.clone());
        let ask = [
            MessageRequest::ListServices(String::new()),
            MessageRequest::FileContainingSymbol("flowmesh.v1.StreamService".into()),
        ];
        let ask = ask.map(|m| ServerReflectionRequest { host: String::new(), message_request: Some(m) });
        let mut replies =
            reflection.server_reflection_info(tokio_stream::iter(ask)).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            replies.message().await.unwrap().unwrap().message_response
        else {
            panic!("no list");
        };
        let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
        for service in ["Health", "Stream", "Queue", "KV", "Schema", "Replay"] {
            assert!(names.contains(&format!("flowmesh.v1.{service}Service").as_str()), "{names:?}");
        }
        let Some(MessageResponse::FileDescriptorResponse(file)) =
            replies.message().await.unwrap().unwrap().message_response
        else {
            panic!("no file");
        };
        assert_eq!(file.file_descriptor_proto.len(), 1);
    }
}
