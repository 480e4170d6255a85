//! What is in manifests/: rendered as promised, valid for the API, and no more privileged than the code needs.

#![allow(clippy::unwrap_used)]

mod access;
mod configuration;
mod host_paths;
mod lab;
mod objects;
mod pod_security;
mod rendering;
mod valid;
