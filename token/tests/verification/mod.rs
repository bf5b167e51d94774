//! What makes a token acceptable, and every reason for which one is not.

mod binding;
mod facts;
mod scene;
mod signature;
