//! `nunbird-keys` as a program, against a server that speaks real TLS on loopback.

mod commands;
mod directory;
mod double;
mod job;
mod network;
mod packaging;
mod proxy;
mod rotation;
mod scene;
mod tls;
