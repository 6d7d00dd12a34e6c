//! Programs, functions and operations.

use std::borrow::Cow;
use std::collections::BTreeMap;

use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

use super::lexer::{Lexer, Token};
use super::literal::Loose;
use super::print::MAKER;
use crate::decode::{Filed, FiledArgument, FiledBlock, FiledValue, FunctionReader};
use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::limits::Limits;
use crate::package::blob::BlobStore;
use crate::program::{Opset, Program};

/// What a text says.
pub(crate) struct Parsed {
    pub(crate) program: Program,
    /// By function, the shapes that its inputs may have.
    pub(crate) flexible: BTreeMap<String, Flexible>,
    /// Whether this library wrote it.
    pub(crate) ours: bool,
}

/// The shapes that inputs with dimensions of unknown size may have, by input.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Flexible {
    pub(crate) defaults: BTreeMap<String, Vec<i64>>,
    /// The smallest and the largest size of each dimension; -1 for one without an end.
    pub(crate) ranges: BTreeMap<String, Vec<[i64; 2]>>,
    pub(crate) enumerated: BTreeMap<String, Vec<Vec<i64>>>,
}

/// About how many bytes of text there are for each value.
const VALUE_BYTES: usize = 120;

pub(super) struct Parser<'a> {
    pub(super) lexer: Lexer<'a>,
    pub(super) limits: &'a Limits,
    operations: usize,
    /// Whether the text says that this library wrote it.
    ours: bool,
}

/// Reads a program, with its weights out of `blobs`.
pub(crate) fn program(text: &str, blobs: &mut BlobStore, limits: &Limits) -> Result<Parsed, ReadError> {
    let mut parser = Parser { lexer: Lexer::new(text)?, limits, operations: 0, ours: false };
    parser.program(blobs)
}

impl<'a> Parser<'a> {
    fn program(&mut self, blobs: &mut BlobStore) -> Result<Parsed, ReadError> {
        if self.lexer.word("`program`")? != "program" {
            return Err(self.lexer.refuse_at(0, "this is not MIL text: it does not begin with `program`"));
        }
        self.lexer.expect('(')?;
        let version = self.lexer.word("the version of the format")?;
        if version.split('.').next() != Some("1") {
            let message = format!("version {} of MIL text is not 1, the only one this library knows", quote(version));
            return Err(ReadError::new(ReadErrorKind::Unsupported, message));
        }
        self.lexer.expect(')')?;
        self.attributes()?;
        self.lexer.expect('{')?;
        let program = Program { functions: BTreeMap::new() };
        let mut parsed = Parsed { program, flexible: BTreeMap::new(), ours: self.ours };
        while !self.lexer.skip('}')? {
            if parsed.program.functions.len() == self.limits.functions {
                let message = format!("the program has more than the limit of {} functions", self.limits.functions);
                return Err(ReadError::new(ReadErrorKind::Limit, message));
            }
            self.function(blobs, &mut parsed)?;
        }
        if self.lexer.peek() != Token::End {
            return Err(self.lexer.unexpected("the end"));
        }
        if parsed.program.functions.is_empty() {
            return Err(ReadError::new(ReadErrorKind::Program, "the program has no functions"));
        }
        Ok(parsed)
    }

    /// Adds the next function.
    fn function(&mut self, blobs: &mut BlobStore, parsed: &mut Parsed) -> Result<(), ReadError> {
        if self.lexer.peek() != Token::Word("func") {
            return Err(self.lexer.unexpected("`func`"));
        }
        self.lexer.word("`func`")?;
        let name = self.name("the function's name")?;
        self.lexer.expect('<')?;
        let start = self.lexer.position();
        let opset = self.lexer.word("the operation set")?;
        let opset = Opset::from_text(opset).ok_or_else(|| {
            let message = format!("operation set {} is not one this library knows", quote(opset));
            ReadError::new(ReadErrorKind::Unsupported, format!("{}: {message}", self.lexer.place(start)))
        })?;
        self.lexer.expect('>')?;
        let place = || format!("function {}", quote(&name));
        let inputs = self.parameters()?;
        let mut reader = FunctionReader::new(opset, inputs, self.lexer.bytes_left() / VALUE_BYTES, blobs, self.limits)
            .within(place)?;
        let flexible = self.attributes()?;
        self.lexer.expect('{')?;
        while !self.lexer.skip('}')? {
            let start = self.lexer.position();
            let operation = self.operation(0)?;
            reader.operation(operation).within(|| self.lexer.place(start)).within(place)?;
        }
        self.lexer.arrow()?;
        let outputs = self.results()?;
        self.lexer.skip(';')?;
        let function = reader.finish(&outputs).within(place)?;
        parsed.flexible.insert(name.clone(), flexible);
        match parsed.program.functions.insert(name.clone(), function) {
            None => Ok(()),
            Some(_) => Err(self.lexer.refuse_at(start, &format!("function {} is defined twice", quote(&name)))),
        }
    }

    /// A name, which quotation marks may enclose.
    fn name(&mut self, what: &str) -> Result<String, ReadError> {
        self.borrowed_name(what).map(Cow::into_owned)
    }

    fn borrowed_name(&mut self, what: &str) -> Result<Cow<'a, str>, ReadError> {
        let start = self.lexer.position();
        let name = match self.lexer.peek() {
            Token::Text(text) => self.lexer.unescape(text)?,
            Token::Word(word) => Cow::Borrowed(word),
            _ => return Err(self.lexer.unexpected(what)),
        };
        self.lexer.take()?;
        if name.len() > self.limits.name_bytes {
            let message = format!("a name of {} bytes is above the limit of {}", name.len(), self.limits.name_bytes);
            return Err(ReadError::new(ReadErrorKind::Limit, format!("{}: {message}", self.lexer.place(start))));
        }
        Ok(name)
    }

    /// `(TYPE name, …)`
    fn parameters(&mut self) -> Result<Vec<FiledValue<'a>>, ReadError> {
        self.several('(', ')', |parser, _| parser.definition())
    }

    fn definition(&mut self) -> Result<FiledValue<'a>, ReadError> {
        let ty = Some(self.value_type()?);
        Ok(FiledValue { name: self.borrowed_name("a name")?, ty })
    }

    /// `(name, …)`
    fn results(&mut self) -> Result<Vec<String>, ReadError> {
        self.several('(', ')', |parser, _| parser.name("a name"))
    }

    /// The attributes of the program or of a function, of which the shapes of inputs have a meaning here.
    fn attributes(&mut self) -> Result<Flexible, ReadError> {
        let mut flexible = Flexible::default();
        if self.lexer.peek() != Token::Symbol('[') {
            return Ok(flexible);
        }
        self.several('[', ']', |parser, _| {
            let name = parser.name("an attribute's name")?;
            parser.lexer.expect('=')?;
            parser.value_type()?;
            parser.lexer.expect('(')?;
            let value = parser.loose(0)?;
            parser.lexer.expect(')')?;
            match name.as_str() {
                "FlexibleShapeInformation" => flexible = Flexible::read(&value),
                "buildInfo" => {
                    let key = |pair: &Loose| pair.items().first().and_then(Loose::as_text) == Some(MAKER);
                    parser.ours |= value.items().iter().any(key);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(flexible)
    }

    fn operation(&mut self, depth: usize) -> Result<Filed<'a>, ReadError> {
        self.operations += 1;
        if self.operations > self.limits.operations {
            let message = format!("the program has more than the limit of {} operations", self.limits.operations);
            return Err(ReadError::new(ReadErrorKind::Limit, message));
        }
        let mut outputs = SmallVec::new();
        if self.lexer.peek() == Token::Symbol('(') {
            outputs = self.parameters()?.into();
            self.lexer.expect('=')?;
        } else if !self.lexer.begins_call() {
            loop {
                outputs.push(self.definition()?);
                if !self.lexer.skip(',')? {
                    break;
                }
            }
            self.lexer.expect('=')?;
        }
        let kind = self.borrowed_name("the type of an operation")?.into();
        let mut inputs = self.several('(', ')', |parser, _| {
            let name = parser.borrowed_name("a parameter")?.into();
            parser.lexer.expect('=')?;
            let arguments = if parser.lexer.peek() == Token::Symbol('(') {
                parser.several('(', ')', |parser, _| parser.argument())?.into()
            } else {
                smallvec![parser.argument()?]
            };
            Ok((name, arguments))
        })?;
        self.order(&mut inputs, "parameter")?;
        let (mut named, mut attributes) = (None, Vec::new());
        if self.lexer.peek() == Token::Symbol('[') {
            self.several('[', ']', |parser, _| {
                let name = parser.borrowed_name("an attribute's name")?;
                parser.lexer.expect('=')?;
                // Every operation has one, so it is worth the short way.
                match parser.lexer.peek() {
                    Token::Word("string") if name == "name" && named.is_none() && parser.lexer.begins_call() => {
                        named = Some(parser.text()?);
                    }
                    _ => attributes.push((name.into(), parser.value()?)),
                }
                Ok(())
            })?;
            self.order(&mut attributes, "attribute")?;
            if named.is_some() && attributes.iter().any(|(name, _)| name == "name") {
                return Err(self.twice("attribute"));
            }
        }
        let mut blocks = Vec::new();
        while self.lexer.peek() == Token::Symbol('(') {
            if depth == self.limits.block_depth {
                let message = format!("blocks lie more than {depth} deep within each other");
                return Err(ReadError::new(ReadErrorKind::Limit, message));
            }
            blocks.push(self.block(depth + 1)?);
        }
        self.lexer.expect(';')?;
        Ok(Filed { kind, name: named.unwrap_or_default(), inputs, outputs, attributes, blocks })
    }

    /// Puts the entries in the order of their names, of which no two may be the same.
    fn order<T>(&self, entries: &mut [(SmolStr, T)], what: &str) -> Result<(), ReadError> {
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        if entries.array_windows().any(|[(a, _), (b, _)]| a == b) { Err(self.twice(what)) } else { Ok(()) }
    }

    fn twice(&self, what: &str) -> ReadError {
        self.lexer.refuse_at(self.lexer.position(), &format!("before this, a {what} is given twice"))
    }

    /// `string("…")`
    fn text(&mut self) -> Result<SmolStr, ReadError> {
        self.lexer.word("`string`")?;
        self.lexer.expect('(')?;
        let Token::Text(text) = self.lexer.peek() else { return Err(self.lexer.unexpected("a text")) };
        let text = self.lexer.unescape(text)?.into();
        self.lexer.take()?;
        self.lexer.expect(')')?;
        Ok(text)
    }

    /// A name, or a value in place.
    fn argument(&mut self) -> Result<FiledArgument<'a>, ReadError> {
        Ok(if self.lexer.begins_value() {
            FiledArgument::Value(Box::new(self.value()?))
        } else {
            FiledArgument::Name(self.borrowed_name("an argument")?)
        })
    }

    fn block(&mut self, depth: usize) -> Result<FiledBlock<'a>, ReadError> {
        let inputs = self.parameters()?;
        self.lexer.expect('{')?;
        let mut operations = Vec::new();
        while !self.lexer.skip('}')? {
            operations.push(self.operation(depth)?);
        }
        self.lexer.arrow()?;
        Ok(FiledBlock { inputs, outputs: self.results()?, operations })
    }
}

impl Flexible {
    /// Pairs of a key and a dictionary by input, as compilers write them; what has another form is left out.
    fn read(value: &Loose) -> Self {
        let mut flexible = Self::default();
        let numbers = |value: &Loose| value.items().iter().map(Loose::as_number).collect::<Option<Vec<_>>>();
        fn entries(value: &Loose) -> impl Iterator<Item = (&str, &Loose)> {
            value.items().iter().filter_map(|pair| match pair.items() {
                [key, value] => Some((key.as_text()?, value)),
                _ => None,
            })
        }
        for (key, value) in entries(value) {
            for (name, value) in entries(value) {
                match key {
                    "DefaultShapes" => {
                        flexible.defaults.extend(numbers(value).map(|shape| (name.to_owned(), shape)));
                    }
                    "RangeDims" => {
                        let range = |range: &Loose| numbers(range)?.try_into().ok();
                        let ranges = value.items().iter().map(range).collect::<Option<Vec<[i64; 2]>>>();
                        flexible.ranges.extend(ranges.map(|ranges| (name.to_owned(), ranges)));
                    }
                    // Here `name` is that of a set of shapes, one for each input.
                    "EnumeratedShapes" => {
                        for (input, shape) in entries(value) {
                            let shapes = flexible.enumerated.entry(input.to_owned()).or_default();
                            shapes.extend(numbers(shape).filter(|shape| !shapes.contains(shape)));
                        }
                    }
                    _ => {}
                }
            }
        }
        flexible
    }
}
