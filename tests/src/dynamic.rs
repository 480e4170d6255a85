//! Messages built and read by descriptor alone: another version of the contract, as another version's program speaks it.

use anyhow::Context;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use prost_types::{FieldDescriptorProto, FileDescriptorSet, field_descriptor_proto};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// The number of the field that [`next_version`] adds.
const FUTURE_FIELD: i32 = 1_900;

/// Sends dynamic messages and receives those of one type.
#[derive(Clone, Debug)]
pub struct DynamicCodec(pub MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        DynamicMessage::decode(self.0.clone(), buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A message of a type, with some fields set.
///
/// # Panics
/// Where the type or a field does not exist in the pool, or a value does not fit it.
#[must_use]
pub fn message(pool: &DescriptorPool, name: &str, fields: impl IntoIterator<Item = (&'static str, Value)>) -> DynamicMessage {
    let descriptor = pool.get_message_by_name(&format!("vedette.v1.{name}")).unwrap_or_else(|| panic!("no message {name}"));
    let mut message = DynamicMessage::new(descriptor);
    for (field, value) in fields {
        message.set_field_by_name(field, value);
    }
    message
}

/// The contract as a next version may extend it: every message has one more field, `future`.
///
/// # Errors
/// Where the descriptors do not hold together.
pub fn next_version(descriptors: &[u8]) -> anyhow::Result<DescriptorPool> {
    let mut set = FileDescriptorSet::decode(descriptors)?;
    for message in set.file.iter_mut().filter(|file| file.package() == "vedette.v1").flat_map(|file| &mut file.message_type) {
        message.field.push(FieldDescriptorProto {
            name: Some("future".into()),
            number: Some(FUTURE_FIELD),
            label: Some(field_descriptor_proto::Label::Optional.into()),
            r#type: Some(field_descriptor_proto::Type::String.into()),
            json_name: Some("future".into()),
            ..FieldDescriptorProto::default()
        });
    }
    DescriptorPool::from_file_descriptor_set(set).context("the extended contract does not hold together")
}
