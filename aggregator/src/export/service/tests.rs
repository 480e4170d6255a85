//! Whole files, from a real history and real labels.

use tonic::Code;
use vedette_proto::v1::{ExportFormat, Kind, LabelSource, Selector, TimeRange, export_service_server::ExportService as _};

use super::*;
use crate::query::world::{T0, World, container_id, label};

async fn file(world: &World, request: ExportRequest) -> Result<(Vec<u8>, ExportResponse), Status> {
    let service = ExportService::new(world.shared.clone()).unwrap();
    let mut stream = service.export(Request::new(request)).await?.into_inner();
    let (mut bytes, mut last) = (Vec::new(), ExportResponse::default());
    while let Some(part) = stream.next().await {
        let part = part?;
        assert!(part.data.len() <= PART_BYTES);
        bytes.extend_from_slice(&part.data);
        last = part;
    }
    Ok((bytes, last))
}

fn lines(bytes: Vec<u8>) -> Vec<String> {
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_layout_of_two_containers_is_as_computed_by_hand() {
    let world = World::new().await;
    world.observe(&["cart", "web"], 70).await;
    world.label(vec![label("cart", (T0 + 12_000, T0 + 13_000), Kind::Mining, LabelSource::Simulation)]).await;

    let request = ExportRequest { layout: ExportLayout::Seed.into(), ..ExportRequest::default() };
    let (bytes, last) = file(&world, request).await.unwrap();

    // Two containers of half a core each, and the node's own row not counted.
    let lines = lines(bytes);
    assert_eq!(lines[0], "timestamp,restarts,cpu,memory,net_tx,net_rx,label");
    assert_eq!(lines[1], "2023-11-14T22:13:30.000000,NaN,1,2000,200,400,normal");
    assert_eq!(lines[2], "2023-11-14T22:13:40.000000,NaN,1,2000,200,400,anomaly");
    assert_eq!(lines[7], "2023-11-14T22:14:30.000000,NaN,1,2000,200,400,normal");
    assert_eq!(lines.len(), 8);
    assert_eq!((last.rows, last.total_rows), (7, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_full_layout_has_every_row_with_the_label_that_stands() {
    let world = World::new().await;
    world.observe(&["cart", "web"], 10).await;
    let ids = world.label(vec![label("cart", (T0 + 3_000, T0 + 5_000), Kind::Mining, LabelSource::Simulation)]).await;

    let (bytes, last) = file(&world, ExportRequest::default()).await.unwrap();
    let lines = lines(bytes);
    assert_eq!((lines.len(), last.rows, last.total_rows), (31, 30, 30));
    assert!(lines[0].starts_with("time,cluster,node,") && lines[0].ends_with(",label,label_affected,label_source"), "{}", lines[0]);
    assert_eq!(lines.iter().filter(|line| line.ends_with(",mining,false,simulation")).count(), 2);
    assert_eq!(lines.iter().filter(|line| line.ends_with(",,false,")).count(), 28);

    let only = ExportRequest { kinds: vec![Kind::Mining.into()], ..ExportRequest::default() };
    assert_eq!(file(&world, only.clone()).await.unwrap().1.rows, 2);
    world.shared.store.retract_label(ids[0], "anna", "").await.unwrap();
    assert_eq!(file(&world, only).await.unwrap().1.rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_and_a_range_choose_rows_and_parquet_holds_them() {
    let world = World::new().await;
    world.observe(&["cart", "web"], 10).await;
    let request = ExportRequest {
        format: ExportFormat::Parquet.into(),
        selector: Some(Selector { container_id: container_id("web")[..12].into(), ..Selector::default() }),
        range: Some(TimeRange { start_unix_ms: T0 + 2_000, end_unix_ms: T0 + 5_000 }),
        ..ExportRequest::default()
    };

    let (bytes, last) = file(&world, request).await.unwrap();

    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    assert!(reader.schema().field_with_name("label").is_ok() && reader.schema().field_with_name("cpu_usage_us").is_ok());
    let rows: usize = reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!((rows as u64, last.rows, last.total_rows), (3, 3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_refused_with_the_field() {
    let world = World::new().await;
    let seed = ExportLayout::Seed.into();
    let cases = [
        ("format, layout", ExportRequest { format: 9, ..ExportRequest::default() }),
        ("format, layout", ExportRequest { layout: -1, ..ExportRequest::default() }),
        ("kinds", ExportRequest { kinds: vec![0], ..ExportRequest::default() }),
        ("kinds", ExportRequest { kinds: vec![1; 1000], ..ExportRequest::default() }),
        ("kinds", ExportRequest { kinds: vec![2], layout: seed, ..ExportRequest::default() }),
        ("range", ExportRequest { range: Some(TimeRange { start_unix_ms: 9, end_unix_ms: 3 }), ..ExportRequest::default() }),
        ("range.start", ExportRequest { range: Some(TimeRange { start_unix_ms: i64::MIN, end_unix_ms: 0 }), ..ExportRequest::default() }),
        (
            "selector.pod_uid",
            ExportRequest { selector: Some(Selector { pod_uid: "x' OR 1=1".into(), ..Selector::default() }), ..ExportRequest::default() },
        ),
    ];
    for (field, request) in cases {
        let status = file(&world, request).await.unwrap_err();

        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{status}");
    }
}
