//! The purgatory in this process's memory: each operation is one call of one script, as in Redis, and all is gone with
//! the process.
//!
//! One lock over everything makes a call atomic, and is never held while waiting.

use std::collections::HashMap;
use std::sync::Arc;

use mlua::Function;
use mlua::Lua;
use mlua::LuaOptions;
use mlua::StdLib;
use mlua::Variadic;
use parking_lot::Mutex;
use redis::Value;
use tokio::sync::watch;

use super::keyspace::Clock;
use super::keyspace::Keyspace;
use super::keyspace::Reply;
use crate::purgatory::store::script::PurgatoryScript;

/// The purgatory in memory. Clones are the same one.
#[derive(Clone)]
pub(in crate::purgatory::store) struct MemoryStore {
    engine: Arc<Mutex<Engine>>,
    changes: watch::Sender<u64>,
}

/// A Lua as Redis gives it to scripts (Redis manual, "Lua API reference"), as far as these use it.
struct Engine {
    lua: Lua,
    /// The scripts that were called before.
    compiled: HashMap<&'static str, Function>,
}

impl MemoryStore {
    pub(in crate::purgatory::store) fn new(clock: Clock) -> Self {
        let changes = watch::Sender::new(0);
        let keyspace = Keyspace::new(clock, changes.clone());
        let engine = Engine::new(keyspace).expect("a new Lua has room for two tables");
        Self {
            engine: Arc::new(Mutex::new(engine)),
            changes,
        }
    }

    /// Calls a script.
    pub(in crate::purgatory::store) fn call(&self, script: &PurgatoryScript, argv: Vec<String>) -> mlua::Result<Value> {
        // A panic elsewhere must not block all others; the keys are usable after any part of a script.
        let mut engine = self.engine.lock();
        let function = engine.compiled(script)?;
        engine.lua.globals().set("ARGV", argv)?;
        redis_value(function.call(())?)
    }

    pub(in crate::purgatory::store) fn listen(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Engine {
    fn new(mut keyspace: Keyspace) -> mlua::Result<Self> {
        let lua = Lua::new_with(StdLib::MATH | StdLib::STRING | StdLib::TABLE, LuaOptions::default())?;
        let call = lua.create_function_mut(move |_, words: Variadic<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            keyspace.call(&words).map_err(mlua::Error::external)
        })?;
        let decode = lua.create_function(|_, json: String| {
            let decoded = serde_json::from_str(&json).map_err(mlua::Error::external)?;
            json_reply(decoded).ok_or_else(|| mlua::Error::runtime("the store in memory decodes only texts and arrays"))
        })?;
        lua.globals().set("redis", lua.create_table_from([("call", call)])?)?;
        lua.globals()
            .set("cjson", lua.create_table_from([("decode", decode)])?)?;
        let compiled = HashMap::new();
        Ok(Self { lua, compiled })
    }

    fn compiled(&mut self, script: &PurgatoryScript) -> mlua::Result<Function> {
        if let Some(function) = self.compiled.get(script.name) {
            return Ok(function.clone());
        }
        // A comment for Lua: the flags in the first line are for Redis.
        let chunk = self.lua.load(format!("--{}", script.source())).set_name(script.name);
        let function = chunk.into_function()?;
        self.compiled.insert(script.name, function.clone());
        Ok(function)
    }
}

/// Returns what Redis makes of what a script returns: whole numbers, `true` as one, `false` as nil, arrays up to their
/// first nil.
fn redis_value(value: mlua::Value) -> mlua::Result<Value> {
    if let Some(list) = value.as_table() {
        let values = list.sequence_values().map(|value| redis_value(value?));
        return Ok(Value::Array(values.collect::<mlua::Result<_>>()?));
    }
    if let Some(text) = value.as_string() {
        return Ok(Value::BulkString(text.as_bytes().to_vec()));
    }
    let number = value.as_integer().or(value.as_number().map(|number| number as i64));
    let number = number.or((value.as_boolean() == Some(true)).then_some(1));
    Ok(number.map_or(Value::Nil, Value::Int))
}

fn json_reply(json: serde_json::Value) -> Option<Reply> {
    match json {
        serde_json::Value::String(text) => Some(Reply::Text(text)),
        serde_json::Value::Array(values) => values
            .into_iter()
            .map(json_reply)
            .collect::<Option<_>>()
            .map(Reply::List),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Object(_) => None,
    }
}
