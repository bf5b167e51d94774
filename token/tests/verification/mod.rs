//! What makes a token count, and every way in which one does not.

mod binding;
mod facts;
mod scene;
mod signature;
