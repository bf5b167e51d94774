//! Fields of structs as values, so that tables can name them.

/// One field of an `S`.
pub struct Lens<S: 'static, T: 'static> {
    /// To read it.
    pub get: fn(&S) -> &T,
    /// To fill it.
    pub get_mut: fn(&mut S) -> &mut T,
}

impl<S, T> Clone for Lens<S, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S, T> Copy for Lens<S, T> {}

/// The [`Lens`] of a field: `lens!(upkeep.max_age)`.
macro_rules! lens {
    ($($field:ident).+) => {
        $crate::lens::Lens { get: |s| &s.$($field).+, get_mut: |s| &mut s.$($field).+ }
    };
}
pub(crate) use lens;
