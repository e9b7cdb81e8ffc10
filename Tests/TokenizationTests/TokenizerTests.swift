import Testing
@Suite struct TokenizerTests {}
