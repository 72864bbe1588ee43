package firestore

// Classify is classify, for its table test.
var Classify = classify
