//! Names, numbers and types on the wire, against a list (`wire.txt`) that was not made from the
//! proto file.

use std::fmt::Write;

use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

fn file() -> prost_types::FileDescriptorProto {
    let mut set = FileDescriptorSet::decode(flowmesh_proto::DESCRIPTORS).expect("descriptors");
    assert_eq!(set.file.len(), 1, "one file, no imports");
    set.file.remove(0)
}

fn type_name(field: &FieldDescriptorProto, of: &DescriptorProto) -> String {
    let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let name = match field.r#type() {
        Type::String => "string".into(),
        Type::Bytes => "bytes".into(),
        Type::Bool => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Double => "double".into(),
        Type::Message => short(field.type_name()),
        other => panic!("{}.{} has type {other:?}", of.name(), field.name()),
    };
    let is_map_entry = |m: &DescriptorProto| m.options.as_ref().is_some_and(|o| o.map_entry());
    let entry = of.nested_type.iter().find(|m| m.name() == name && is_map_entry(m));
    match entry {
        Some(entry) => {
            let part = |i: usize| type_name(&entry.field[i], entry);
            format!("map<{},{}>", part(0), part(1))
        }
        None if field.label() == Label::Repeated => format!("repeated {name}"),
        None => name,
    }
}

#[test]
fn names_numbers_and_types_are_those_of_the_contract() {
    let file = file();
    let mut ours = Vec::new();
    for service in &file.service {
        for method in &service.method {
            let (service, name) = (service.name(), method.name());
            assert_eq!(method.input_type(), format!(".flowmesh.v1.{name}Request"));
            assert_eq!(method.output_type(), format!(".flowmesh.v1.{name}Response"));
            assert!(!method.client_streaming());
            assert_eq!(method.server_streaming(), name == "Subscribe");
            ours.push(format!("rpc {service} {name}\n"));
        }
    }
    for message in &file.message_type {
        let mut text = format!("{}\n", message.name());
        let mut fields: Vec<_> = message.field.iter().collect();
        fields.sort_by_key(|f| f.number());
        for field in fields {
            writeln!(text, "  {} {} {}", field.number(), field.name(), type_name(field, message)).unwrap();
        }
        ours.push(text);
    }

    let list = include_str!("wire.txt");
    let mut contract: Vec<String> = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        match contract.last_mut() {
            Some(message) if line.starts_with(' ') => *message += &format!("{line}\n"),
            _ => contract.push(format!("{line}\n")),
        }
    }
    ours.sort();
    contract.sort();
    assert_eq!(contract, ours);
}

#[test]
fn the_file_is_plain_proto3() {
    let file = file();
    assert_eq!((file.syntax(), file.package()), ("proto3", "flowmesh.v1"));
    assert!(file.dependency.is_empty() && file.enum_type.is_empty() && file.extension.is_empty());
    assert_eq!((file.service.len(), file.message_type.len()), (6, 85));
    assert_eq!(file.service.iter().map(|s| s.method.len()).sum::<usize>(), 37);
    for message in &file.message_type {
        assert!(message.oneof_decl.is_empty() && message.enum_type.is_empty(), "{}", message.name());
        assert!(message.reserved_range.is_empty() && message.reserved_name.is_empty(), "{}", message.name());
    }
}
