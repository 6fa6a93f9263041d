//! JSON objects as dictionaries.

use std::borrow::Cow;

use super::{
    Refused,
    value::{MAX_DEPTH, MAX_VALUES, Value},
};

pub(super) fn read(text: &[u8]) -> Result<Value<'static>, Refused> {
    let json = serde_json::from_slice(text).map_err(|_| Refused::Dictionary)?;
    let mut values = 0;
    convert(json, 0, &mut values)
}

fn convert(
    json: serde_json::Value,
    depth: usize,
    values: &mut usize,
) -> Result<Value<'static>, Refused> {
    use serde_json::Value as Json;

    *values += 1;
    if depth > MAX_DEPTH || *values > MAX_VALUES {
        return Err(Refused::Size);
    }
    Ok(match json {
        Json::String(text) => Value::Text(Cow::Owned(text.into_bytes())),
        Json::Number(number) => number.as_i64().map_or_else(
            || Value::Text(Cow::Owned(number.to_string().into_bytes())),
            Value::Integer,
        ),
        Json::Bool(bool) => Value::Integer(bool.into()),
        Json::Null => Value::List(Vec::new()),
        Json::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| convert(item, depth + 1, values))
                .collect::<Result<_, _>>()?,
        ),
        Json::Object(entries) => Value::Dictionary(
            entries
                .into_iter()
                .map(|(key, value)| {
                    Ok((
                        Cow::Owned(key.into_bytes()),
                        convert(value, depth + 1, values)?,
                    ))
                })
                .collect::<Result<_, _>>()?,
        ),
    })
}
